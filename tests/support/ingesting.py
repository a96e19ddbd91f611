"""The command line of `pipelines.ingest`, and the pictures and rows that its tests write and read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from pipelines.ingest import cli


def run(*arguments: object) -> Result:
    """What the command line answers to these arguments; `output` holds both of its streams."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def pixels_of(row: dict[str, Any]) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def save(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
