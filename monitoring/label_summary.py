"""Metrics of labelled predictions for people: sentences, and tables for the terminal.

All functions take the values of `monitoring.label_metrics.measure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Group
from rich.table import Column, Table

from service.moods import MOODS

MINUS: Final = "\N{MINUS SIGN}"
_METRICS: Final = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_recall": "macro recall"}
_TESTS: Final = {"photos": "test, photos", "ferplus": "test, FER2013"}
_COLUMNS: Final = {"brightness": "brightness", "face_share": "face size", "sharpness": "sharpness"}
_QUALITY_HEADER: Final = ("", "range", "labels", "right", "photos", "reference")
_MORE_AND_LESS: Final = {
    "confidence": ("more certain", "less certain"),
    "brightness": ("brighter", "darker"),
    "face_share": ("of larger faces", "of smaller faces"),
    "sharpness": ("sharper", "less sharp"),
}


def sentences(values: Mapping[str, Any], margin: float) -> list[str]:
    """The result in plain sentences, the most important first; `margin` is that of the parameters."""
    return [
        _accuracy(values),
        _expected(values),
        _enough(values, margin),
        _calibration(values["calibration"]),
        *_selection(values["images"], values["selection"]),
        *_people(values),
        *_raters(values["raters"]),
    ]


def tables(values: Mapping[str, Any]) -> Group:
    """The tables, of which none needs more than 80 columns."""
    return Group(
        *(
            table
            for table in (
                _metric_table(values),
                _mood_table(values["by_mood"]),
                _confusion_table(values["confusion"]),
                _calibration_table(values["calibration"]["bands"]),
                _quality_table(values),
            )
            if table.row_count
        )
    )


def metric_rows(values: Mapping[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """The main metrics, live and beside: what they are of, the number of images, and each metric in percent."""
    beside = {
        "live": values,
        "reference, same moods": values["expected"],
        f"live {MINUS} reference": values["difference"],
        **{title: values["released_test"].get(name) for name, title in _TESTS.items()},
    }
    return [
        (
            title,
            f"{row['images']:,}" if "images" in row else "",
            {name: _cell(row[metric], row[f"{metric}_interval"]) for metric, name in _METRICS.items()},
        )
        for title, row in beside.items()
        if row
    ]


def quality_rows(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Accuracy by range of a column: its name, once, the range, the number of labels, the accuracy in percent, and
    number and accuracy of the reference photos in that range."""
    rows = values["by_quality"]
    names = [_COLUMNS[row["column"]] for row in rows]
    return [
        (
            "" if index and names[index - 1] == name else name,
            _limits(row["above"], row["up_to"]),
            f"{row['images']:,}",
            _cell(row["accuracy"], row["accuracy_interval"]),
            f"{row['reference_images']:,}",
            _cell(row["reference_accuracy"], row["reference_accuracy_interval"]),
        )
        for index, (name, row) in enumerate(zip(names, rows, strict=True))
    ]


def percent(share: float) -> str:
    """A share as whole percent."""
    return f"{_signed(share)} %"


def _accuracy(values: Mapping[str, Any]) -> str:
    right = round(values["accuracy"] * values["images"])
    people = f" of {_count(values['people'], 'person', 'people')}" if values["people"] else ""
    return (
        f"{right:,} of {_count(values['images'], 'labelled prediction')}{people} "
        f"{'is' if right == 1 else 'are'} right: {_range(values['accuracy'], values['accuracy_interval'])}."
    )


def _expected(values: Mapping[str, Any]) -> str:
    expected, difference = values["expected"], values["difference"]
    if expected is None:
        return "There are no reference photos of a mood that has labels, so there is no accuracy to expect."
    low, high = difference["accuracy_interval"]["low"], difference["accuracy_interval"]["high"]
    change = difference["accuracy"]
    if low <= 0 <= high:
        verdict = f"The difference of {_points(change)} ({_signed(low)} to {_signed(high)}) may be chance"
    else:
        near, far = sorted((abs(low), abs(high)))
        verdict = (
            f"Live is {_points(abs(change))} ({_signed(near)} to {_signed(far)}) "
            f"{'lower' if change < 0 else 'higher'}, which is more than chance"
        )
    return (
        "Of the reference photos, with the same mix of moods, "
        f"{_range(expected['accuracy'], expected['accuracy_interval'])} are right. {verdict}."
    )


def _enough(values: Mapping[str, Any], margin: float) -> str:
    if more := values["more_labels"]:
        digits = max(0, len(str(more)) - 2)
        about = f"about {round(more, -digits):,}" if digits else f"{more:,}"
        return f"Not enough labels yet: {about} more for ± {_points(margin)}."
    return f"The labels are enough for ± {_points(margin)}."


def _calibration(values: Mapping[str, Any]) -> str:
    said = f"On average the labelled predictions say {percent(values['confidence'])}"
    low, high = values["gap_interval"]["low"], values["gap_interval"]["high"]
    if low <= 0 <= high:
        return f"{said}, which agrees with the labels within chance."
    near, far = sorted((abs(low), abs(high)))
    return (
        f"{said}: {_points(abs(values['gap']))} ({_signed(near)} to {_signed(far)}) "
        f"{'more than they are right' if values['gap'] > 0 else 'less than they are right'}."
    )


def _selection(images: int, values: Mapping[str, Any]) -> list[str]:
    if images == values["predictions"]:
        return ["Every answered prediction of the window is labelled."]
    found = [f"{images:,} of {values['predictions']:,} answered predictions ({_share(values['share'])}) are labelled."]
    if differences := values["differences"]:
        found.append(f"They are no random sample: they are {'; '.join(_difference(one) for one in differences)}.")
    else:
        found.append(
            "They look like the others in confidence, mood, brightness, face size and sharpness, as far as so many "
            "labels can show."
        )
    if values["weighted_accuracy"] is not None:
        weighted = _range(values["weighted_accuracy"], values["weighted_accuracy_interval"])
        found.append(f"Weighted to the confidence of all answered predictions, {weighted} are right.")
    return [" ".join(found)]


def _difference(values: Mapping[str, Any]) -> str:
    labelled, others = values["labelled"], values["others"]
    if values["column"] == "mood":
        mood = max(MOODS, key=lambda name: abs(labelled[name] - others[name]))
        more = "more often" if labelled[mood] > others[mood] else "less often"
        return f"{more} predicted {mood} ({_share(labelled[mood])}, others {_share(others[mood])})"
    words = _MORE_AND_LESS[values["column"]][int(values["shift"] < 0)]
    name = _COLUMNS.get(values["column"], values["column"])
    return f"{words} (median {name} {labelled:.2g}, others {others:.2g})"


def _people(values: Mapping[str, Any]) -> list[str]:
    if values["people"] is None and values["images"] > 1:
        return [
            "The labels do not say who is in a picture (column person): if several show the same person, the intervals "
            "are too narrow."
        ]
    return ["All labels are of one person and say nothing about others."] if values["people"] == 1 else []


def _raters(values: Mapping[str, int]) -> list[str]:
    if not values["repeated"]:
        return []
    left_out = values["undecided"]
    return [
        f"Several raters labelled {_count(values['repeated'], 'picture')} and agree on all of them."
        if values["unanimous"] == values["repeated"]
        else f"Several raters labelled {_count(values['repeated'], 'picture')} and agree on {values['unanimous']:,}"
        f" ({_share(values['unanimous'] / values['repeated'])}): no model can agree with all of them more often. "
        f"The mood that most gave counts; {_count(left_out, 'picture')} without one {'is' if left_out == 1 else 'are'} "
        "left out, which leaves easier ones."
    ]


def _metric_table(values: Mapping[str, Any]) -> Table:
    """The main metrics, live and beside."""
    table = _table("Percent, with 95 % intervals", "", "images", *_METRICS.values())
    for title, images, cells in metric_rows(values):
        table.add_row(title, images, *cells.values())
    return table


def _mood_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("By mood, percent", "mood", "labels", "recall", "photos", "reference", "answers", "precision")
    for row in rows:
        table.add_row(
            row["mood"],
            f"{row['images']:,}",
            _cell(row["recall"], row["recall_interval"]),
            f"{row['reference_images']:,}",
            _cell(row["reference_recall"], row["reference_recall_interval"]),
            f"{row['predicted']:,}",
            _cell(row["precision"], None),
        )
    return table


def _confusion_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("Labels (rows) and predictions (columns)", "", *MOODS)
    for row in rows:
        table.add_row(row["label"], *(f"{row['predicted'][mood]:,}" for mood in MOODS))
    return table


def _calibration_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("By confidence, percent", "confidence", "labels", "mean", "right")
    for row in rows:
        table.add_row(
            f"{_signed(row['from'])} to {_signed(row['to'])}",
            f"{row['images']:,}",
            _signed(row["confidence"]),
            _cell(row["accuracy"], row["accuracy_interval"]),
        )
    return table


def _quality_table(values: Mapping[str, Any]) -> Table:
    table = _table("By quality, percent", *_QUALITY_HEADER)
    for row in quality_rows(values):
        table.add_row(*row)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    """A table whose first column is a name; the others are right-aligned."""
    columns = (Column(name, justify="right") for name in others)
    return Table(
        Column(first), *columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False
    )


def _limits(above: float | None, up_to: float | None) -> str:
    if above is None:
        return f"to {up_to:.2g}"
    return f"over {above:.2g}" if up_to is None else f"{above:.2g} to {up_to:.2g}"


def _cell(value: float | None, interval: Mapping[str, float] | None) -> str:
    """A share and its interval in percent."""
    if value is None:
        return "-"
    return f"{_signed(value)} [{_signed(interval['low'])}, {_signed(interval['high'])}]" if interval else _signed(value)


def _range(share: float, interval: Mapping[str, float]) -> str:
    return f"{percent(share)} ({_signed(interval['low'])} to {percent(interval['high'])})"


def _signed(share: float) -> str:
    """Whole percent with a true minus."""
    return f"{round(share * 100):d}".replace("-", MINUS)


def _share(share: float) -> str:
    """A share in percent, with a decimal if it is small."""
    return f"{share:.1%}".replace("%", " %") if 0 < share < 0.1 else percent(share)


def _points(share: float) -> str:
    """A difference of shares."""
    points = round(share * 100)
    return f"{_signed(share)} point{'' if abs(points) == 1 else 's'}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
