"""What `pipelines.releases.promote` and `pipelines.releases.rollback` share: what they change, check and say."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import Final

import mlflow

from pipelines import paths
from pipelines.registry import mlflow_connection, mlflow_store, results
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion
from pipelines.releases import changelog, history, transaction
from pipelines.releases.ledger import Ledger, Release

REFERENCE: Final = paths.BUNDLE / "reference"
BUNDLE: Final = (history.CLASSIFIER, REFERENCE, paths.LITERT_REPORT)
"""What the stages `package` and `reference` write."""
REPORTS: Final = (paths.DETECTOR_EQUIVALENCE,)
"""Reports about the released classifier that are made again only by `dvc repro`."""
CHANGED: Final = (paths.CHAMPION, paths.RELEASES, *BUNDLE, *REPORTS, paths.COMPARISON / results.RESULTS_FILE)
"""What a decision by hand changes and DVC knows."""
TOUCHED: Final = (*CHANGED, results.README, changelog.CHANGELOG, paths.DVC_LOCK)
"""All that a decision by hand changes."""


def require_committed(ledger: Ledger) -> None:
    """Check that the files of the present champion are in git's history, because they are about to be replaced.

    Raises:
        LookupError: they are not.
    """
    current = ledger.current
    if current is not None and history.find(current) is None:
        raise LookupError(
            f"The files of {current.title} are not in git yet and would be lost. Commit them first: git add "
            f"{paths.CHAMPION} {paths.RELEASES} {paths.BUNDLE} dvc.lock && git commit"
        )


def others(champion: Candidate) -> set[str]:
    """Digests of all trained and evaluated models but one."""
    return {candidate.digest for candidate in Candidate.all_evaluated()} - {champion.digest}


def run_stage(module: str) -> None:
    """Run the module of a stage.

    Raises:
        RuntimeError: it failed; its output says why.
    """
    done = subprocess.run([sys.executable, "-m", module])
    if done.returncode != 0:
        raise RuntimeError(f"python -m {module} failed. The files are as they were before.")


def build() -> None:
    """Write the bundle of the champion in `models/champion`, and the drift reference."""
    run_stage("pipelines.package")
    run_stage("monitoring.make_reference")


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """End a command with the sentence of an expected error and exit code 1, without a traceback."""
    try:
        yield
    except (LookupError, RuntimeError, ValueError, FileNotFoundError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def recover() -> None:
    """Put back what an interrupted decision has left, and say so."""
    if transaction.recover():
        print("A promotion or rollback was interrupted before. Its files were put back.", file=sys.stderr)


def tell_registry(champion: Champion, decision: str) -> None:
    """Make git's champion the registry's; a store that fails is a warning on standard error.

    Args:
        champion: Git's champion.
        decision: The version's tag `decision`.
    """
    try:
        with mlflow_connection.plain_errors():
            mlflow_store.connect()
            from pipelines.releases import promotion  # it needs Keras, which takes seconds

            version = promotion.sync_from_git(champion, decision)
        print(f"MLflow: the alias `{mlflow_store.CHAMPION_ALIAS}` is at version {version.version}.")
    except (mlflow_connection.StoreUnreachable, mlflow.MlflowException, LookupError, OSError) as error:
        print(
            f"Warning: {error}.\nThe alias in MLflow was not moved. Git decides: the stage `register` moves it once it "
            "reaches the store (dvc repro --force --single-item register).",
            file=sys.stderr,
        )


def say(entry: Release, stale: Collection[str]) -> None:
    """Print what was done, and what is left to do.

    Args:
        entry: The new entry of the ledger.
        stale: Stages whose outputs DVC will make again.
    """
    done = "brought back" if entry.action == "rollback" else "promoted"
    print(f"{entry.title.capitalize()} is {done} by {entry.by}: {entry.reason}")
    if entry.gate == "refused":
        print("The gate refuses it: this is decided against the gate.")
    if entry.withdraws:
        print(
            "Withdrawn: all other models that there are now. The gate promotes only better ones, trained later; "
            "you can promote any: python -m pipelines.releases.promote NAME --reason WHY"
        )
    if stale:
        print(f"`dvc repro` will make again, for this release: {', '.join(stale)}.")
    changed = " ".join(path.as_posix() for path in TOUCHED if path.exists())
    print(f'Now commit it:\n  git add {changed}\n  git commit -m "Release {entry.number} {done}"')
