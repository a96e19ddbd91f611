"""Schemathesis against a running server: requests generated from its OpenAPI document, answers checked against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")

# Bytes that the document allows need not be an image, and an image need not show a face: 400, 415 and 422 are right.
_EXCLUDED_CHECK: Final = "positive_data_acceptance"


def run(
    url: str, directory: Path, *, examples: int, token: str | None = None, seed: int = 20
) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis.

    Args:
        url: Address of the server, whose API page must be on.
        directory: Working directory, where it may leave files.
        examples: Number of random requests per operation, beside the systematic ones.
        token: Bearer token for operations that need one.
        seed: Seed of the random requests.

    Returns:
        The ended process: its exit status is 0 if every answer was as documented, and its output is the report.
    """
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(_CONFIGURATION),
        "run", f"{url.rstrip('/')}/docs.json",
        "--url", url, "--checks", "all", "--exclude-checks", _EXCLUDED_CHECK, "--max-examples", str(examples),
        "--seed", str(seed), "--generation-database", "none", "--no-color", "--request-timeout", "60",
        *(["--header", f"Authorization: Bearer {token}"] if token else []),
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
