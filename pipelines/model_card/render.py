"""The model card of the released classifier, after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

Every figure in it comes out of the pipeline's reports; none is typed here. What failed is shown in figures, never in
faces. Reports that older releases lack are left out.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pandas as pd

from pipelines import markdown, paths
from pipelines.evaluation import plots
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.model_card import architecture_picture
from pipelines.params import Params
from pipelines.registry import decision_report
from pipelines.registry.candidates import (
    CONFUSION_FILE,
    CONFUSION_PICTURE,
    METRICS_FILE,
    MOODS_FILE,
    RELIABILITY_PICTURE,
    SLICES_FILE,
    SLICES_PICTURE,
    VALIDATION_FILE,
)
from pipelines.registry.champion import Champion
from pipelines.registry.candidates import MODEL_FILE
from service.moods import MOODS

ARCHITECTURE_PICTURE: Final = "architecture.png"
_EVALUATION_PICTURES = (CONFUSION_PICTURE, RELIABILITY_PICTURE, SLICES_PICTURE)
_TESTS = {
    "ferplus": "FER2013 `PrivateTest`, FER+ labels",
    "original": "FER2013 `PrivateTest`, original labels",
    "original_head": "the same, by a head of its own",
    "photos": "held-out photos, through MTCNN",
}
_FIGURES = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "expected_calibration_error": "calibration error",
}
_CONFIDENCES = (0.0, 0.5, 0.7, 0.9, 1.0)
_MOST_FREQUENT = 5


def render(champion: Champion) -> str:
    """The card as Markdown; `write_pictures` makes what it shows."""
    record = champion.record
    spec, metrics, evaluation = record.input, record.metrics, champion.candidate.evaluation
    sections = f"""# Model card: {record.architecture}, version {record.version}

Written by the stage `package`; every figure comes from the pipeline's reports.

## What it is
- A classifier of a grey face crop of {spec.size} x {spec.size} pixels into four moods: positive, negative, neutral,
  other. Architecture `{record.architecture}`: {metrics["parameters"]:,} parameters, {metrics["size_bytes"]:,} bytes as
  served, {metrics["latency_ms"]:.2f} ms for a face on one thread of the machine that ran the pipeline (median).
- {_mirroring(record.mirror_averaging)}
- Probabilities are calibrated by temperature scaling (T = {record.temperature:.3f}, fitted on validation).
- {record.reason}

![The network, layer by layer, with the shapes of its tensors]({ARCHITECTURE_PICTURE})

BN is batch normalisation; a convolution is given with its kernel and its number of filters.

{_training(record.training_parameters)}

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
{_licences()}

The licences are those of the datasets; the pictures belong to whoever took them. Ask before you use the model for
anything but research.

Faces by split and source; no person is in two splits of the photos:

{markdown.frame(pd.read_csv(paths.CLASS_TABLE))}

{_leaks(paths.LEAKS)}

## How good it is
Selection and calibration used validation data only; these are the test sets.{_interval_note(metrics["test"])}

{_tests(metrics["test"])}

Photos in which the detector found no face are not in the last row; it found one in
{metrics["test"]["photos"]["coverage"]:.1%} of them.{_head_note(metrics["test"])}

By mood:

{_by_mood(evaluation / MOODS_FILE)}

### Calibration
How often it is right when it is so sure; on the dashed line its probabilities mean what they say.

![Reliability diagrams of the tests]({RELIABILITY_PICTURE})
"""
    return "\n".join(
        part
        for part in (
            sections,
            _slices(evaluation / SLICES_FILE, metrics["test"]["ferplus"]["weighted_f1"]),
            _failures(evaluation),
            _candidates(),
            _ideas(paths.IDEAS),
            _litert(paths.LITERT_REPORT),
            _gate(record.reason, record.decision),
            _limits(spec.size),
        )
        if part
    )


def write_pictures(champion: Champion, directory: Path) -> None:
    """What the card shows, into the directory that it is in: the network, and pictures of the evaluation.

    Raises:
        ValueError: the network cannot be drawn; see `pipelines.model_card.architecture_picture`.
    """
    record = champion.record
    model = keras.models.load_model(champion.candidate.model / MODEL_FILE, compile=False)
    title = f"{record.architecture}: {record.metrics['parameters']:,} parameters"
    plots.save(architecture_picture.draw(model, title), directory / ARCHITECTURE_PICTURE)
    for name in _EVALUATION_PICTURES:
        if (champion.candidate.evaluation / name).exists():
            shutil.copy(champion.candidate.evaluation / name, directory / name)


def _ideas(path: Path) -> str:
    """What was tried for a better model, and what it gave; empty where nothing was recorded."""
    if not path.exists():
        return ""
    table = pd.read_csv(path).convert_dtypes()
    shown = {
        "idea": "idea",
        "expectation": "expected",
        "seed": "seed",
        "epochs": "epochs",
        "ferplus_weighted_f1": "weighted F1, FER+",
        "original_weighted_f1": "weighted F1, original labels",
        "photos_accuracy": "accuracy, photos",
        "photos_macro_recall": "macro recall, photos",
    }
    rows = [[None if pd.isna(value) else value for value in row] for row in table[list(shown)].to_numpy()]
    return f"""## What was tried
On validation, with answers averaged over face and mirror image; `python -m pipelines.try_idea` adds a row. Figures
compare where the epochs are the same.

{markdown.table(list(shown.values()), rows)}
"""


def _mirroring(mirror_averaging: bool) -> str:
    """What the served graph does with a face."""
    if mirror_averaging:
        return "The answer is the mean of the probabilities of the face and of its mirror image."
    return "The face is looked at once, as it is."


def _training(parameters: Mapping[str, str]) -> str:
    """The recipe and its numbers, as the run has them."""
    named = f"by the recipe `{parameters['recipe']}`" if "recipe" in parameters else "by the pipeline's recipe"
    shown = {
        name: value
        for name, value in parameters.items()
        if name not in ("architecture", "recipe") and not name.startswith("input.") and value != "None"
    }
    return f"Trained {named}: {', '.join(f'`{name}` {value}' for name, value in shown.items())}."


def _licences() -> str:
    """The datasets."""
    return markdown.table(
        ["dataset", "what", "licence"],
        [
            ("FER2013", "grey faces of 48 x 48 pixels from web searches (ICML 2013 challenge)", "for research"),
            ("FER+", "votes of ten annotators on FER2013's faces (Microsoft)", "MIT"),
            (
                "muxspace/facial_expressions",
                "photos of people in the public eye, mostly Labeled Faces in the Wild, and film stills; one label each",
                "Apache-2.0",
            ),
        ],
    )


def _leaks(path: Path) -> str:
    """What `prepare` removed from training, and left out."""
    leaks: dict[str, Any] = json.loads(path.read_text())
    return (
        f"{leaks['removed']:,} training images that also stand in validation or test, exactly or nearly, were removed; "
        f"{leaks['photos_without_a_face']:,} photos without a detected face and "
        f"{leaks['fer2013_images_without_a_vote_that_counts']:,} FER2013 images without a vote that counts were left "
        f"out. {leaks['validation_images_also_in_test']:,} validation images also stand in test and were left there."
    )


def _tests(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each test, a column for each figure."""
    rows = [
        [title, *(_with_interval(tests[name], figure) for figure in _FIGURES)]
        for name, title in _TESTS.items()
        if name in tests
    ]
    return markdown.table(["test", *_FIGURES.values()], rows)


def _with_interval(figures: Mapping[str, Any], name: str) -> str:
    """A figure, with its interval where it has one."""
    interval = plots.get(f"{name}_interval")
    return f"{plots[name]:.3f}" + (f" ({interval['low']:.3f} to {interval['high']:.3f})" if interval else "")


def _interval_note(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands in brackets."""
    if "weighted_f1_interval" not in tests["ferplus"]:
        return ""
    return (
        " In brackets: 95 % intervals by a\n"
        "bootstrap of the images. They tell of the chance in a test set, not of the one in a training."
    )


def _head_note(tests: Mapping[str, Any]) -> str:
    """What the head for the original labels is."""
    if "original_head" not in tests:
        return ""
    return (
        "\nThe two kinds of labels disagree on many faces, so that no one answer serves both. The network was trained "
        "with a second\nhead for the original labels; it is measured here, and not shipped."
    )


def _by_mood(path: Path) -> str:
    """Precision, recall and F1 of each mood on each test, with intervals where there are some."""
    table = pd.read_csv(path)

    def figure(row: Any, name: str) -> str:
        if f"{name}_low" not in table:
            return f"{getattr(row, name):.3f}"
        return f"{getattr(row, name):.3f} ({getattr(row, f'{name}_low'):.3f} to {getattr(row, f'{name}_high'):.3f})"

    rows = [
        (row.test, row.mood, f"{row.precision:.3f}", figure(row, "recall"), figure(row, "f1"), row.support)
        for row in table.itertuples()
    ]
    return markdown.table(["test", "mood", "precision", "recall", "F1", "images"], rows)


def _slices(path: Path, clean: float) -> str:
    """What conditions that a phone meets cost; empty where they were not measured."""
    if not path.exists():
        return ""
    table = pd.read_csv(path)
    test = table[table["split"] == "test"].sort_values("loss", ascending=False)
    validation = table[table["split"] == "validation"].set_index("slice")["weighted_f1"]
    rows = [
        (
            CORRUPTIONS[row.slice].title if row.slice in CORRUPTIONS else row.slice,
            row.weighted_f1,
            f"{100 * row.loss:.1f} points",
            row.macro_recall,
            validation.get(row.slice),
        )
        for row in test.itertuples()
    ]
    header = ["slice", "weighted F1", "lost to clean", "macro recall", "weighted F1 on validation"]
    return f"""## In the dark, blurred, covered
FER2013 `PrivateTest`, FER+ labels, every face changed; as they are, weighted F1 is {clean:.3f}. Seeded, so that every
model sees the same pictures.

{markdown.table(header, rows)}

![What each slice costs]({SLICES_PICTURE})
"""


def _failures(evaluation: Path) -> str:
    """Where it is wrong, and how sure it is then; in figures, because the faces belong to people."""
    confusions = pd.read_csv(evaluation / CONFUSION_FILE)
    counts = pd.crosstab(confusions["actual"], confusions["predicted"]).reindex(
        index=list(MOODS), columns=list(MOODS), fill_value=0
    )
    matrix = markdown.table(
        ["shown", *(f"answered {mood}" for mood in MOODS), "images"],
        [(mood, *map(int, counts.loc[mood]), int(counts.loc[mood].sum())) for mood in MOODS],
    )
    wrong = {
        (shown, answered): int(counts.loc[shown, answered])
        for shown in MOODS
        for answered in MOODS
        if shown != answered
    }
    total = max(sum(wrong.values()), 1)
    frequent = [
        f"- {shown} taken for {answered}: {count:,} times, {count / total:.0%} of all errors, "
        f"{count / max(int(counts.loc[shown].sum()), 1):.1%} of the {shown} faces"
        for (shown, answered), count in sorted(wrong.items(), key=lambda item: -item[1])[:_MOST_FREQUENT]
        if count
    ]
    text = f"""## Where it fails
On FER2013 `PrivateTest`, FER+ labels; counts of faces:

{matrix}

The most frequent errors:

{chr(10).join(frequent) or "- none"}

![Confusion matrices of the tests]({CONFUSION_PICTURE})
"""
    answers = evaluation / VALIDATION_FILE
    return f"{text}\n{_confidence(ValidationPredictions.load(answers))}" if answers.exists() else text


def _confidence(answers: ValidationPredictions) -> str:
    """How often it is wrong by how sure it is, on validation, whose answers are kept one by one."""
    sources = {
        "FER2013": answers.ferplus,
        "photos": answers.photos,
    }
    rows = [
        row for name, predictions in sources.items() if len(predictions) for row in _confidence_rows(name, predictions)
    ]
    header = ["validation", "confidence", "answers", "wrong", "share wrong"]
    return f"How sure it is when it is wrong (validation):\n\n{markdown.table(header, rows)}\n"


def _confidence_rows(name: str, predictions: Predictions) -> list[tuple[str, str, int, int, str]]:
    """A row for each range of confidence that has an answer."""
    wrong = predictions.predicted != predictions.moods
    range_of = np.searchsorted(_CONFIDENCES[1:-1], predictions.confidences, side="right")
    rows = []
    for index, (low, high) in enumerate(itertools.pairwise(_CONFIDENCES)):
        inside = range_of == index
        count, errors = int(inside.sum()), int((inside & wrong).sum())
        if count:
            rows.append((name, f"{low:g} to {high:g}", count, errors, f"{errors / count:.1%}"))
    return rows


def _candidates() -> str:
    """All architectures side by side."""
    rows = []
    for architecture in Params.read().candidates:
        path = paths.EVALUATION / architecture / METRICS_FILE
        if not path.exists():
            continue
        metrics = json.loads(path.read_text())
        tests = metrics["test"]
        rows.append(
            [
                architecture,
                Params.read().model(architecture).recipe,
                metrics["parameters"],
                metrics["size_bytes"],
                f"{metrics['latency_ms']:.2f} ms",
                metrics["validation"]["ferplus"]["weighted_f1"],
                *(tests[test]["weighted_f1"] if test in tests else None for test in _TESTS),
                f"{100 * tests['worst_slice_loss']:.1f} points" if "worst_slice_loss" in tests else None,
            ]
        )
    header: Sequence[str] = [
        "architecture",
        "recipe",
        "parameters",
        "bytes",
        "latency",
        "weighted F1: validation",
        "FER+",
        "original",
        "original, own head",
        "photos",
        "worst slice",
    ]
    return f"""## The candidates it was chosen from
The best by weighted F1 on validation (FER+ labels), inside the bounds of size and latency, challenges the champion.
Latency: median for one face on one thread, on the machine that ran the pipeline. The worst slice: weighted F1 lost to
the clean test.

{markdown.table(header, rows)}
"""


def _litert(path: Path) -> str:
    """The files for phones; empty where they were not measured."""
    if not path.exists():
        return ""
    report: dict[str, Any] = json.loads(path.read_text())
    rows = [
        (
            name,
            report[key]["bytes"],
            f"{report[key]['weighted_f1']:.4f}",
            f"{report[key]['largest_difference']:.1e}" if "largest_difference" in report[key] else None,
            f"{report[key]['same_mood']:.2%}" if "same_mood" in report[key] else None,
        )
        for key, name in {"served": "ONNX, served", "float32": "LiteRT, float32", "int8": "LiteRT, int8"}.items()
        if key in report
    ]
    header = ["file", "bytes", "weighted F1 on validation", "largest difference of a probability", "same mood"]
    return f"""## On the phone
Against the served graph, on {report["faces"]:,} validation faces:

{markdown.table(header, rows)}
"""


def _gate(reason: str, decision: Mapping[str, Any] | None) -> str:
    """Why it is the champion."""
    parts = [f"## Why it was released\n{reason}"]
    if decision:
        if decision["champion"]:
            parts.append("In the tables the challenger is this model, and the champion the one of before.")
        parts.append(decision_report.details(decision))
    return "\n\n".join(parts) + "\n"


def _limits(size: int) -> str:
    """What is known to be wrong, or not known."""
    return f"""## Known limits
- Trained on faces of {size} pixels from the web and the press, most of them frontal and posed for a camera.
- How good it is by age, sex, skin colour, or for faces changed by facial palsy or Parkinson's disease was not
  measured: the data carry no such labels.
- `other` gathers surprise and what annotators could not name. It and `negative` are rare among the photos; figures on
  them there rest on few pictures.
- A crowd's votes are the truth here; where the crowd is divided, so is the model.
"""
