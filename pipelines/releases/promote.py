"""Release a model by decision of a maintainer, whatever the gate says.

    python -m pipelines.releases.promote mini_xception_distilled --reason "clinic B has bright rooms"

The model is named by its name in `params.yaml`, if it is trained and evaluated, or by the beginning of a digest: that
of a release in the ledger, or that of a model in MLflow (tag `model_digest`). One command changes all that belongs
together: `models/champion`, the bundle with its model card, the drift reference, the ledger, the changelog, DVC's lock
and the alias in MLflow. If something fails, everything stays as it was. An MLflow store that does not answer is only a
warning. The ledger says who did it, when, why and what the gate said. All other models that there are now are
withdrawn: the stage `register` does not promote them.

To go back to an earlier release, use `python -m pipelines.releases.rollback`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import mlflow
import typer

from pipelines import paths
from pipelines.params import Params
from pipelines.registry import mlflow_connection, mlflow_store, results, runs
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion
from pipelines.registry.dvc_lock import Recorded
from pipelines.releases import by_hand, promotion
from pipelines.releases.ledger import Ledger, Verdict, require_consistent
from pipelines.releases.transaction import transaction

_DIGEST: Final = re.compile("[0-9a-f]{8,64}")
_STAGES: Final = ("register", "package", "reference")
"""The stages whose outputs this command writes."""


def find(name: str, directory: Path) -> tuple[Candidate, dict[str, Any]]:
    """The model that is meant.

    Args:
        name: Its name, or the beginning of its digest.
        directory: Directory for files from MLflow.

    Returns:
        The model and the parameters of its training.

    Raises:
        FileNotFoundError: it is not trained or not evaluated.
        LookupError: no model is called so.
    """
    known = Params.read().evaluated
    if name in known:
        return Candidate.of(name), runs.training_parameters(name)
    if _DIGEST.fullmatch(name):
        name = next((entry.model for entry in Ledger.read().entries if entry.digest.startswith(name)), name)
        for candidate in Candidate.all_evaluated():
            if candidate.digest.startswith(name):
                return candidate, runs.training_parameters(candidate.architecture)
        return _in_registry(name, directory)
    raise LookupError(f"There is no model {name!r} in {paths.PARAMS}; it has {', '.join(known)}.")


def _in_registry(digest: str, directory: Path) -> tuple[Candidate, dict[str, Any]]:
    """A model in MLflow by the beginning of its digest; see `find`."""
    with mlflow_connection.plain_errors():
        mlflow_store.connect()
        found = [one for one in mlflow_store.versions() if mlflow_store.model_digest(one).startswith(digest)]
        if len(found) != 1 or not found[0].run_id:
            raise LookupError(f"Neither {paths.PARAMS} nor MLflow has one model whose digest begins with {digest}.")
        run_id = found[0].run_id
        return runs.download_candidate(run_id, directory), dict(mlflow.get_run(run_id).data.params)


def ask_gate(candidate: Candidate, champion: Champion | None, params: Params) -> tuple[Verdict, dict[str, Any] | None]:
    """What the gate says about a model, in a word and in whole; nothing if it cannot be measured here."""
    try:
        decision = promotion.judge([candidate], champion, params.gate)
    except FileNotFoundError as error:
        print(f"The gate was not asked: {error}")
        return "not asked", None
    print(f"The gate: {decision.reason}")
    return "promoted" if decision.promoted else "refused", asdict(decision)


@by_hand.sentences()
def main(
    model: Annotated[str, typer.Argument(help="Name of a model, or the beginning of its digest.")],
    reason: Annotated[str, typer.Option(help="Why; goes into the ledger, the changelog and the model card.")],
) -> None:
    """Release a model, whatever the gate says.

    Raises:
        LookupError: the model is not known, is the champion already, or the present champion is not committed.
        RuntimeError: packaging failed.
    """
    by_hand.recover()
    params = Params.read()
    champion, ledger = Champion.read(), Ledger.read()
    current = ledger.current
    require_consistent(ledger, champion)
    by_hand.require_committed(ledger)
    with transaction(by_hand.TOUCHED) as work:
        candidate, training_parameters = find(model, work)
        verdict, decision = ask_gate(candidate, champion, params)
        before = Recorded.of(by_hand.CHANGED)
        promoted = promotion.release(
            candidate,
            action="promote",
            gate=verdict,
            reason=reason,
            decision=decision,
            training_parameters=training_parameters,
            withdraws=by_hand.others(candidate),
        )
        if current is not None and promoted.served_digest == current.digest:
            raise LookupError(f"{model} is the champion already: release {current.number}.")
        results.write(params)
        by_hand.build()
        before.renew(_STAGES)
    entry = Ledger.read().current
    assert entry is not None
    by_hand.tell_registry(promoted, f"promoted by {entry.by}")
    by_hand.say(entry, ["detector_equivalence"])


if __name__ == "__main__":
    typer.run(main)
