"""`python -m pipelines.releases.compare`: the compared models by the gate's rule, without any promotion."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import pytest
import yaml

from pipelines.registry.candidates import Candidate
from pipelines.releases import compare, promotion
from tests.support import toys

LINE, OTHER = "line", "other"


def measure(name: str, model: keras.Model, score: float, **options: Any) -> None:
    """What `train` and `evaluate` or `compare` write of a model whose weighted F1 on validation is the score."""
    toys.write_predicted_candidate(name, model, weights="first", score=score, **options)
    if name == OTHER:
        shutil.move(Path("reports/evaluate", name), Path("reports/compare", name))


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """A champion that is the only candidate; one more model may be compared. Gives the network of both."""
    monkeypatch.chdir(tmp_path)
    toys.write_params(tmp_path, [LINE, OTHER])
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"candidates": [LINE], "compared": [OTHER]}))
    Path("reports/compare").mkdir(parents=True)
    model = toys.brightness_model()
    measure(LINE, model, 0.80)
    promotion.as_champion(Candidate.of(LINE), "first", None, {}).write()
    return model


def content(directory: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def test_a_compared_model_that_passes_the_gate_is_named_and_not_promoted(
    line: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(OTHER, line, 0.90)
    champion = content("models/champion")
    compare.main()
    printed = capsys.readouterr().out
    assert "If every model were a candidate: other replaces the champion, line" in printed
    assert "Move other from `compared` to `candidates`" in printed
    assert content("models/champion") == champion
    table = Path("reports/compare/results.md").read_text()
    assert "| **line** |" in table
    assert "| other |" in table


def test_bounds_hold_for_compared_models_too(line: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
    measure(OTHER, line, 0.90, multiply_adds=100_000_000)
    compare.main()
    printed = capsys.readouterr().out
    assert "other: out of bounds, 100,000,000 multiply-adds are more than" in printed
    assert "The champion stays" in printed
    assert "Move" not in printed


def test_a_model_that_was_measured_on_other_faces_is_not_judged(
    line: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(OTHER, line, 0.90, validation_faces="last year's")
    compare.main()
    printed = capsys.readouterr().out
    assert "other: measured on other faces than the candidates" in printed
    assert "The champion stays" in printed
    assert "| other (other sets) |" in Path("reports/compare/results.md").read_text()


def test_models_that_were_never_measured_are_left_out(line: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main()
    assert "The champion stays" in capsys.readouterr().out
    assert "other" not in Path("reports/compare/results.md").read_text()
