"""Go back to an earlier release.

    python -m pipelines.releases.rollback --reason "ward 3 reports wrong moods"        # to the release before
    python -m pipelines.releases.rollback 4 --reason "ward 3 reports wrong moods"

One command brings back what belongs together, from git's history: `models/champion`, the bundle with its model card,
the drift reference and the reports about them. It writes the ledger, the changelog and DVC's lock, and moves the alias
in MLflow. If something fails, everything stays as it was. An MLflow store that does not answer is only a warning. The
release has its old number again. All other models that there are now are withdrawn: the stage `register` does not
promote them, so that `dvc repro` does not undo the rollback.

A release whose files were never committed is made again from the model in MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pipelines import paths
from pipelines.params import Params
from pipelines.registry import results
from pipelines.registry.champion import Champion
from pipelines.registry.dvc_lock import Recorded
from pipelines.releases import by_hand, history
from pipelines.releases.history import Commit
from pipelines.releases.ledger import Ledger, Release
from pipelines.releases.releasing import enter
from pipelines.releases.transaction import replace, transaction
from service.classifier import GRAPH_FILE, METADATA_FILE

_OWN_INPUTS: Final = (history.CLASSIFIER, paths.PHOTOS, paths.PEOPLE, paths.face_set("validation"))
"""Inputs of the stages `reference` and `detector_equivalence` that belong to a release: its outputs hold although these
have changed since."""


def bring_back(commit: Commit, work: Path) -> list[str]:
    """Put the files of a release in their places.

    Args:
        commit: Commit that holds the release.
        work: Empty directory on the same file system.

    Returns:
        Stages of DVC whose outputs belong to the release now.
    """
    stages = ["register", "package"]
    moved = [paths.CHAMPION, history.CLASSIFIER, paths.LITERT_REPORT]
    for stage, path in (("reference", by_hand.REFERENCE), ("detector_equivalence", paths.DETECTOR_EQUIVALENCE)):
        if commit.holds(path):
            moved.append(path)
            if _inputs(commit.locked(stage)) == _inputs(history.locked(stage)):
                stages.append(stage)
    new = {path: commit.extract(path, work) for path in moved if commit.holds(path)}
    # In the first releases the champion's graph is not the released file, and the bundle does not say its digest.
    (new[paths.CHAMPION] / GRAPH_FILE).write_bytes((new[history.CLASSIFIER] / GRAPH_FILE).read_bytes())
    champion = Champion.read(new[paths.CHAMPION])
    assert champion is not None
    (new[history.CLASSIFIER] / METADATA_FILE).write_text(champion.metadata.model_dump_json(indent=2) + "\n")
    for path, extracted in new.items():
        replace(extracted, path)
    return stages


def _inputs(stage: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of a stage's inputs in a lock, without those that belong to a release."""
    own = {path.as_posix() for path in _OWN_INPUTS}
    return {one["path"]: one["md5"] for one in stage.get("deps", []) if one["path"] not in own}


def make_again(release: Release, work: Path) -> list[str]:
    """Make the files of a release that is not in git's history from its model in MLflow.

    The arguments and the result are those of `bring_back`, but for the release.

    Raises:
        LookupError: MLflow does not have it, or not as it was released.
    """
    from pipelines.releases import reconcile  # it needs Keras, which takes seconds

    champion = reconcile.fetch(release, work)
    if champion.served_digest != release.digest:
        raise LookupError(f"MLflow's model of release {release.number} is not what was released: its digest differs.")
    champion.write()
    by_hand.build()
    return ["register", "package", "reference"]


@by_hand.sentences()
def main(
    reason: Annotated[str, typer.Option(help="Why; goes into the ledger and the changelog.")],
    number: Annotated[int | None, typer.Argument(help="Number of the release; default: the one before.")] = None,
) -> None:
    """Go back to an earlier release.

    Raises:
        LookupError: there is no such release, it is the champion already, its files are nowhere, or the present
            champion is not committed.
    """
    by_hand.recover()
    ledger, champion = Ledger.read(), Champion.read()
    target = ledger.before() if number is None else ledger.find(number)
    current = ledger.current
    if champion is not None and current is not None and champion.served_digest == current.digest == target.digest:
        raise LookupError(f"{target.title.capitalize()} is the champion already.")
    by_hand.require_committed(ledger)
    commit = history.find(target)
    with transaction(by_hand.TOUCHED) as work:
        before = Recorded.of(by_hand.CHANGED)
        stages = bring_back(commit, work) if commit else make_again(target, work)
        brought_back = Champion.read()
        assert brought_back is not None
        later = {entry.model for entry in ledger.entries if entry.number > target.number}
        brought_back = enter(
            brought_back,
            action="rollback",
            gate="not asked",
            reason=reason,
            withdraws=later | by_hand.others(brought_back.candidate),
        )
        results.write(Params.read())
        before.renew(stages)
    entry = Ledger.read().current
    assert entry is not None
    by_hand.tell_registry(brought_back, f"brought back by {entry.by}")
    by_hand.say(entry, [stage for stage in ("reference", "detector_equivalence") if stage not in stages])


if __name__ == "__main__":
    typer.run(main)
