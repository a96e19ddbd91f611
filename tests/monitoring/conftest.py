"""A reference, parameters and a log, all of simulated predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import ABSENT, Reference
from service.observation import COLUMNS
from tests.conftest import ROOT
from tests.support.predictions import Write, predictions


@pytest.fixture
def params(tmp_path: Path) -> MonitoringParams:
    """The project's parameters with log and reports in a temporary directory and without a webhook."""
    values = read_monitoring()
    webhook = values.webhook.model_copy(update={"url": "", "backoff_seconds": 0.01})
    return values.model_copy(
        update={"log": tmp_path / "predictions.jsonl", "output": tmp_path / "live", "webhook": webhook}
    )


@pytest.fixture
def reference() -> Reference:
    """A thousand rows; one in ten has the label `other`, the others that of the prediction."""
    table = pd.DataFrame(predictions(1000, seed=0)).drop(columns=list(ABSENT)).assign(source="photos")
    table["label"] = table["mood"].where(np.arange(len(table)) % 10 > 0, "other")
    return Reference("7", table, table, None)


@pytest.fixture
def write_log(params: MonitoringParams) -> Write:
    """Writes rows, or lines as they are, to the log."""

    def write(*lines: dict[str, Any] | str) -> Path:
        texts = [
            line if isinstance(line, str) else json.dumps({name: line[name] for name in COLUMNS}) for line in lines
        ]
        params.log.write_text("\n".join(texts) + "\n")
        return params.log

    return write


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the project's parameters, the released reference, and an empty MLflow store."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "bundle" / "reference", tmp_path / "bundle" / "reference")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path
