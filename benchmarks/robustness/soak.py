"""Robustness of the service under minutes of faults: runs the checks of `benchmarks.robustness.checks`.

    make soak                                            # some 24 minutes
    python -m benchmarks.robustness.soak --share 0.1     # a tenth of it
    python -m benchmarks.robustness.soak --only bombs    # a single check

Prints a table and writes `reports/soak/soak.json`; the exit status is 1 if a limit was broken.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.robustness import attacks, checks, live_sessions
from benchmarks.robustness.plan import Finding, Plan
from benchmarks.server import ROOT

CHECKS: Final[dict[str, Callable[[Plan], Iterator[Finding]]]] = {
    check.__name__: check for check in (*checks.CHECKS, *live_sessions.CHECKS, *attacks.CHECKS)
}
"""The checks by name, in the order of a full run."""

REPORT: Final = ROOT / "reports" / "soak" / "soak.json"

CheckName = StrEnum("CheckName", {name: name for name in CHECKS})


def table(findings: list[Finding]) -> Table:
    """The findings as a table for a terminal."""
    shown = Table("check", "metric", "value", "limit", "", title="Robustness of the service")
    last = ""
    for finding in findings:
        mark = "" if not finding.limit else "[green]kept[/]" if finding.kept else "[red]broken[/]"
        check = finding.check if finding.check != last else ""
        if check and last:
            shown.add_section()
        shown.add_row(check, finding.metric, finding.value, finding.limit, mark)
        last = finding.check
    return shown


def run(plan: Plan, names: list[CheckName], console: Console) -> list[Finding]:
    """Run checks one after the other; a check that raises an exception counts as broken."""
    findings: list[Finding] = []
    for name in names:
        begun = time.perf_counter()
        console.print(f"{name} ...")
        try:
            findings += CHECKS[name](plan)
        except Exception as error:  # the other checks are still worth running
            findings.append(Finding(name, "completed", f"{type(error).__name__}: {error}"[:300], "yes", False))
        console.print(f"  {time.perf_counter() - begun:.0f} s")
    return findings


def main(
    share: Annotated[float, typer.Option(min=0.001, max=1.0, help="Share of a full run's durations and counts.")] = 1.0,
    only: Annotated[list[CheckName] | None, typer.Option(help="Check to run; may be repeated. Default: all.")] = None,
    report: Annotated[Path, typer.Option(help="JSON file to write.")] = REPORT,
) -> None:
    """Check what the service withstands: overload, faults, damaged images; look for leaks of memory and of images."""
    console, begun = Console(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="meaa-soak-") as directory:
        findings = run(Plan(share, Path(directory)), only or list(CheckName), console)
    console.print(table(findings))
    minutes = (time.perf_counter() - begun) / 60
    kept = all(finding.kept for finding in findings)
    console.print(f"{minutes:.1f} minutes; {'every limit kept' if kept else 'limits broken'}")
    report.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "share": share,
        "minutes": round(minutes, 1),
        "cores": os.cpu_count(),
        "kept": kept,
        "findings": [asdict(finding) for finding in findings],
    }
    report.write_text(json.dumps(content, indent=2) + "\n")
    if not kept:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
