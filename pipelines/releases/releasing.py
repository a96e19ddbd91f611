"""Making a champion in git: `models/champion`, the ledger and the changelog together."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.registry.champion import Champion
from pipelines.releases import changelog
from pipelines.releases.ledger import Action, Ledger, Release, Verdict


def enter(champion: Champion, *, action: Action, gate: Verdict, reason: str, withdraws: Iterable[str] = ()) -> Champion:
    """Write a champion, under the number that the ledger gives it, with a new entry of the ledger and the changelog.

    Args:
        champion: The new champion; the number in its record does not matter.
        action: See `pipelines.releases.ledger.Release`.
        gate: See there.
        reason: See there.
        withdraws: See there.

    Returns:
        The champion as it is written.
    """
    ledger = Ledger.read()
    number = ledger.number_of(champion.served_digest)
    numbered = champion.record.model_copy(update={"version": str(number)})
    written = Champion(numbered, champion.candidate).write()
    entry = Release.now(number, written, action=action, gate=gate, reason=reason, withdraws=withdraws)
    ledger.added(entry).write()
    changelog.add(entry)
    return written
