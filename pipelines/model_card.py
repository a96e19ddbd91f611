"""The model card of the released classifier, after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

Every figure in it comes out of the pipeline's reports; none is typed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import paths
from pipelines.candidates import METRICS_FILE, MOODS_FILE
from pipelines.champion import Champion
from pipelines.params import read_section

_TESTS = {
    "ferplus": "FER2013 `PrivateTest`, FER+ labels",
    "original": "FER2013 `PrivateTest`, original labels",
    "photos": "held-out photos, through MTCNN",
}
_FIGURES = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "expected_calibration_error": "calibration error",
}


def render(champion: Champion) -> str:
    """The card as Markdown."""
    record = champion.record
    spec, metrics = record.input, record.metrics
    return f"""# Model card: {record.architecture}, version {record.version}

Written by the stage `package`; every figure comes from the pipeline's reports.

## What it is
- A classifier of a grey face crop of {spec.size} x {spec.size} pixels into four moods: positive, negative, neutral,
  other. Architecture `{record.architecture}`: {metrics["parameters"]:,} parameters, {metrics["size_bytes"]:,} bytes as
  served.
- {_mirroring(record.mirror_averaging)}
- Probabilities are calibrated by temperature scaling (T = {record.temperature:.3f}, fitted on validation).
- {record.reason}

## What it is for, and what not
- For: a hint, for a clinician who knows the patient and reviews it, at how a consenting person's facial expression
  would be read by a crowd of annotators.
- It reads expressions, not feelings: people smile when they are sad. It is no diagnosis and no medical device.
- Not for: decisions about a person without a human; employment, schools, policing, border control, insurance or
  advertising; watching people who do not know or have not agreed; finding out who someone is.
- The EU AI Act (Regulation (EU) 2024/1689) forbids emotion inference at work and in education other than for medical
  or safety reasons (article 5(1)(f)), counts other emotion recognition as high-risk (annex III, 1(c)), and obliges
  whoever deploys it to tell the people concerned (article 50(3)).

## Data
- FER2013 (ICML 2013 challenge; for research) with FER+ votes (Microsoft, MIT licence).
- Photos of people in the public eye and film stills (muxspace/facial_expressions, Apache-2.0; mostly Labeled Faces in
  the Wild): one mood each, and no person in two splits.
- Faces by split and source:

{_class_table(paths.CLASS_TABLE)}

{_leaks(paths.LEAKS)}

## How good it is
Selection and calibration used validation data only; these are the test sets.

{_table(["test", *_FIGURES.values()], _test_rows(metrics["test"]))}

Photos in which the detector found no face are not in the last row; it found one in
{metrics["test"]["photos"]["coverage"]:.1%} of them.

By mood:

{_by_mood(champion.candidate.evaluation / MOODS_FILE)}

## The candidates it was chosen from
Chosen by weighted F1 on validation (FER+ labels). Latency: median for one face on one thread, on the machine that
ran the pipeline.

{_candidates()}

## Known limits
- Trained on faces of {spec.size} pixels from the web and the press, most of them frontal and posed for a camera.
- How good it is by age, sex, skin colour, or for faces changed by facial palsy or Parkinson's disease was not
  measured: the data carry no such labels.
- `other` gathers surprise and what annotators could not name. It and `negative` are rare among the photos; figures on
  them there rest on few pictures.
- A crowd's votes are the truth here; where the crowd is divided, so is the model.
"""


def _mirroring(mirror_averaging: bool) -> str:
    """What the served graph does with a face."""
    if mirror_averaging:
        return "The answer is the mean of the probabilities of the face and of its mirror image."
    return "The face is looked at once, as it is."


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _test_rows(tests: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A row for each test, a column for each figure."""
    return [[title, *(f"{tests[name][figure]:.3f}" for figure in _FIGURES)] for name, title in _TESTS.items()]


def _class_table(path: Path) -> str:
    """What `prepare` counted."""
    table = pd.read_csv(path)
    return _table(list(table.columns), [[_cell(value) for value in row] for row in table.itertuples(index=False)])


def _leaks(path: Path) -> str:
    """What `prepare` removed from training, and left out."""
    leaks: dict[str, Any] = json.loads(path.read_text())
    return (
        f"{leaks['removed']:,} training images that also stand in validation or test, exactly or nearly, were removed; "
        f"{leaks['photos_without_a_face']:,} photos without a detected face and "
        f"{leaks['fer2013_images_without_a_vote_that_counts']:,} FER2013 images without a vote that counts were left "
        f"out. {leaks['validation_images_also_in_test']:,} validation images also stand in test and were left there."
    )


def _by_mood(path: Path) -> str:
    """Precision, recall and F1 of each mood on each test."""
    table = pd.read_csv(path)
    return _table(list(table.columns), [[_cell(value) for value in row] for row in table.itertuples(index=False)])


def _candidates() -> str:
    """All architectures side by side."""
    rows = []
    for architecture in read_section("architectures"):
        metrics = json.loads((paths.EVALUATION / architecture / METRICS_FILE).read_text())
        rows.append(
            [
                architecture,
                f"{metrics['parameters']:,}",
                f"{metrics['size_bytes']:,}",
                f"{metrics['latency_ms']:.2f} ms",
                f"{metrics['validation']['ferplus']['weighted_f1']:.3f}",
                *(f"{metrics['test'][test]['weighted_f1']:.3f}" for test in _TESTS),
            ]
        )
    header = ["architecture", "parameters", "bytes", "latency", "weighted F1: validation", *_TESTS]
    return _table(header, rows)


def _cell(value: object) -> str:
    """A figure as people read it."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
