"""What late labels say: figures, what stands beside them, and the command that prints them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from monitoring import feedback, label_metrics, label_summary, labels, report, tracking, verdict
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from service.moods import MOODS
from service.observation import PROBABILITIES
from tests.support.mlflow_stores import closed_port
from tests.support.predictions import NOW, as_log, in_sessions, predictions

Rows = list[dict[str, Any]]


def window(rows: Rows) -> Log:
    return as_log(pd.DataFrame(rows))


def labelled(rows: Rows, moods: list[str], persons: list[str] | None = None) -> pd.DataFrame:
    """One label for each of the first rows."""
    return pd.DataFrame(
        {
            "request": [row["request"] for row in rows[: len(moods)]],
            "mood": moods,
            "rater": "",
            "time": NOW,
            "person": persons or "",
        }
    )


def noisy(rows: Rows, every: int) -> list[str]:
    """The predicted moods, each `every`-th replaced by another."""
    return [
        row["mood"] if index % every else MOODS[(MOODS.index(row["mood"]) + 1) % len(MOODS)]
        for index, row in enumerate(rows)
    ]


def measured(rows: Rows, given: pd.DataFrame, reference: Reference, params: MonitoringParams) -> dict[str, Any]:
    values = label_metrics.measure(window(rows), given, reference, params)
    assert values is not None
    return values


def test_the_figures_are_those_of_the_labelled_rows_alone(reference: Reference, params: MonitoringParams) -> None:
    rows = predictions(300, seed=1)
    values = measured(rows, labelled(rows, noisy(rows[:100], 5)), reference, params)
    assert (values["images"], values["accuracy"]) == (100, 0.8)
    assert values["accuracy_interval"] == pytest.approx({"low": 0.7112, "high": 0.8666}, abs=1e-3)
    assert sum(sum(row["predicted"].values()) for row in values["confusion"]) == 100
    assert values["selection"]["share"] == pytest.approx(1 / 3)
    for figure in ("weighted_f1", "macro_recall"):
        assert values[f"{figure}_interval"]["low"] < values[figure] < values[f"{figure}_interval"]["high"]


def test_a_mood_without_labels_does_not_count_as_recall_zero(reference: Reference, params: MonitoringParams) -> None:
    rows = [row for row in predictions(200, seed=1) if row["mood"] in ("positive", "neutral")]
    values = measured(rows, labelled(rows, [row["mood"] for row in rows]), reference, params)
    assert values["macro_recall"] == 1
    assert set(values["recall"]) == set(values["labels_by_mood"]) == {"positive", "neutral"}


def test_what_is_expected_has_the_mix_of_moods_of_the_labels(reference: Reference, params: MonitoringParams) -> None:
    # The reference is right in all moods but `other`, which it finds in some of the photos that have it.
    rows = [row for row in predictions(400, seed=1) if row["mood"] != "other"]
    values = measured(rows, labelled(rows, [row["mood"] for row in rows]), reference, params)
    assert values["expected"]["accuracy"] == 1
    assert values["difference"]["accuracy"] == 0
    others = measured(rows, labelled(rows, ["other"] * 50), reference, params)
    photos = reference.labelled[reference.labelled["label"] == "other"]
    assert others["expected"]["accuracy"] == pytest.approx((photos["mood"] == "other").mean())
    assert others["difference"]["accuracy_interval"]["high"] < 0
    assert "lower, which is more than chance" in others["sentences"][1]


def test_nothing_is_expected_for_a_mood_without_reference_photos(
    reference: Reference, params: MonitoringParams
) -> None:
    photos = reference.labelled[reference.labelled["label"] != "other"]
    rows = predictions(100, seed=1)
    values = measured(rows, labelled(rows, ["other"] * 20), Reference("7", photos, photos, None), params)
    assert values["expected"] is values["difference"] is None
    assert "no reference photos of a mood that has labels" in values["sentences"][1]


def test_frames_of_few_people_tell_less_and_need_more_labels(reference: Reference, params: MonitoringParams) -> None:
    rows = predictions(120, seed=1)
    wrong = set(range(24))  # all pictures of the first two people
    moods = [noisy([row], 1)[0] if index in wrong else row["mood"] for index, row in enumerate(rows)]
    alone = measured(rows, labelled(rows, moods), reference, params)
    people = measured(rows, labelled(rows, moods, [str(index // 12) for index in range(120)]), reference, params)
    assert people["people"] == 10
    assert people["accuracy"] == alone["accuracy"]
    for name in ("accuracy_interval", "weighted_f1_interval"):
        assert people[name]["high"] - people[name]["low"] > 2 * (alone[name]["high"] - alone[name]["low"])
    assert people["more_labels"] > 4 * alone["more_labels"]
    assert any("who is in a picture" in sentence for sentence in alone["sentences"])
    assert "120 labelled predictions of 10 people" in people["sentences"][0]


def test_a_session_counts_as_a_person_unless_the_labels_say_who_it_is(
    reference: Reference, params: MonitoringParams
) -> None:
    rows = in_sessions(predictions(120, seed=1), 12)
    moods = noisy(rows, 5)
    assert measured(rows, labelled(rows, moods), reference, params)["people"] == 10
    twice = ["p1"] * 12 + [""] * 12 + ["p1"] * 12 + [""] * 84
    assert measured(rows, labelled(rows, moods, twice), reference, params)["people"] == 9
    images = [*rows[:60], *predictions(120, seed=1)[60:]]
    assert measured(images, labelled(images, moods), reference, params)["people"] == 5 + 60


def test_a_picture_without_a_person_is_of_a_person_of_its_own(reference: Reference, params: MonitoringParams) -> None:
    rows = predictions(120, seed=1)
    persons = ["p1"] * 20 + [""] * 100
    assert measured(rows, labelled(rows, noisy(rows, 5), persons), reference, params)["people"] == 101


def test_dark_pictures_that_are_wrong_show_by_brightness_beside_the_photos_of_that_range(
    reference: Reference, params: MonitoringParams
) -> None:
    rows = predictions(150, seed=1)
    darkest = sorted(range(150), key=lambda index: rows[index]["brightness"])[:50]
    moods = [noisy([row], 1)[0] if index in darkest else row["mood"] for index, row in enumerate(rows)]
    table = pd.DataFrame(measured(rows, labelled(rows, moods), reference, params)["by_quality"])
    light = table[table["column"] == "brightness"]
    assert light["images"].tolist() == [50, 50, 50]
    assert light["accuracy"].tolist() == [0, 1, 1]
    assert (light["reference_accuracy"] > 0.8).all()
    assert light["reference_images"].sum() == len(reference.labelled)
    assert light["up_to"].tolist()[:2] == light["above"].tolist()[1:]


def test_predictions_that_claim_too_much_are_told_apart_from_those_that_mean_what_they_say(
    reference: Reference, params: MonitoringParams
) -> None:
    rows, random = predictions(600, seed=1), np.random.default_rng(0)
    honest = [row["mood"] if random.random() < row["confidence"] else noisy([row], 1)[0] for row in rows]
    values = measured(rows, labelled(rows, honest), reference, params)
    assert any("agrees with the labels within chance" in sentence for sentence in values["sentences"])
    vain = [row["mood"] if random.random() < row["confidence"] - 0.2 else noisy([row], 1)[0] for row in rows]
    values = measured(rows, labelled(rows, vain), reference, params)
    assert values["calibration"]["gap"] == pytest.approx(0.2, abs=0.05)
    assert any("more than they are right" in sentence for sentence in values["sentences"])
    for band in values["calibration"]["bands"]:
        assert band["from"] <= band["confidence"] <= band["to"]


def test_a_choice_of_uncertain_dark_pictures_is_said_and_weighed_out(
    reference: Reference, params: MonitoringParams
) -> None:
    random = np.random.default_rng(0)
    rows = predictions(3000, seed=1)
    right = [random.random() < (0.9 if row["confidence"] > 0.5 else 0.4) for row in rows]
    truth = [row["mood"] if fine else noisy([row], 1)[0] for row, fine in zip(rows, right, strict=True)]
    chance = [0.3 if row["confidence"] < 0.5 and row["brightness"] < 0.5 else 0.05 for row in rows]
    chosen = [index for index in range(3000) if random.random() < chance[index]]
    given = labelled(rows, truth).iloc[chosen]
    values = measured(rows, given, reference, params)
    selection = values["selection"]
    # Uncertain predictions have other moods as well.
    assert {one["column"] for one in selection["differences"]} - {"mood"} == {"confidence", "brightness"}
    said = next(sentence for sentence in values["sentences"] if "no random sample" in sentence)
    assert "less certain" in said
    assert "darker" in said
    whole = np.mean(right)
    assert values["accuracy_interval"]["high"] < whole
    interval = selection["weighted_accuracy_interval"]
    assert interval["low"] < whole < interval["high"]


def test_a_random_choice_is_called_none(reference: Reference, params: MonitoringParams) -> None:
    rows = predictions(1000, seed=1)
    values = measured(rows, labelled(rows, noisy(rows[:200], 5)), reference, params)
    assert values["selection"]["differences"] == []
    assert any("They look like the others" in sentence for sentence in values["sentences"])


def test_people_who_were_chosen_at_random_are_called_a_random_choice(
    reference: Reference, params: MonitoringParams
) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        rows = predictions(600, seed=1)
        for person in range(60):  # each looks alike in ten frames that follow one another
            light, first = random.normal(0.5, 0.1), rows[10 * person]
            own = {name: first[name] for name in (*PROBABILITIES, "mood", "confidence", "face_share", "sharpness")}
            for row in rows[10 * person : 10 * person + 10]:
                row |= own | {"brightness": light}
        chosen = [10 * person + frame for person in sorted(random.permutation(60)[:15]) for frame in range(10)]
        values = measured(rows, labelled(rows, noisy(rows, 5)).iloc[chosen], reference, params)
        assert values["selection"]["differences"] == []


def test_labels_count_also_if_the_window_is_a_sample_without_their_rows(
    reference: Reference, params: MonitoringParams
) -> None:
    whole = window(predictions(500, seed=1))
    rows = whole.rows
    sampled = Log(rows.iloc[100:], {}, whole.totals, None, {}, rows.iloc[:60])
    given = labelled(predictions(500, seed=1), noisy(predictions(60, seed=1), 4)).assign(mood="other")
    values = label_metrics.measure(sampled, given, reference, params)
    assert values is not None
    assert values["images"] == 60
    assert values["selection"]["share"] == 60 / 500


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_few_labels_give_valid_json_metrics_for_mlflow_and_tables(
    reference: Reference, params: MonitoringParams, count: int
) -> None:
    rows = predictions(200, seed=3)
    for moods in ([row["mood"] for row in rows[:count]], ["other"] * count):
        values = measured(rows, labelled(rows, moods, ["p"] * count), reference, params)
        json.dumps(values, allow_nan=False)
        flat = tracking.flat_metrics(values, "monitoring/labels")
        assert flat["monitoring/labels/images"] == count
        assert np.isfinite(list(flat.values())).all()
        assert all(re.fullmatch(r"[\w/]+", name) for name in flat)
        assert values["more_labels"] > 0
        assert "of one person" in " ".join(values["sentences"])
        Console(file=io.StringIO(), width=80).print(label_summary.tables(values))


def test_the_released_test_stands_beside_if_the_champion_is_the_one_that_answered() -> None:
    version = Reference.load().model_version
    assert set(label_metrics.released_test(version)) == set(label_metrics.TESTS)
    assert 0.8 < label_metrics.released_test(version)["photos"]["accuracy"] < 1
    assert label_metrics.released_test("another") == {}


@pytest.mark.parametrize("width", [80, 120])
def test_no_table_cuts_a_name_or_a_number(reference: Reference, params: MonitoringParams, width: int) -> None:
    rows = predictions(1500, seed=1)
    values = measured(rows, labelled(rows, noisy(rows, 5)), reference, params)
    screen = Console(file=io.StringIO(), width=width)
    screen.print(label_summary.tables(values))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert "…" not in text
    for name in (*MOODS, "brightness", "face size", "sharpness", "weighted F1", "macro recall", "precision"):
        assert name in text


def test_the_drift_report_shows_the_labels_of_its_window(reference: Reference, params: MonitoringParams) -> None:
    rows = predictions(200, seed=1)
    found = verdict.reach(window(rows), reference, params, labels=labelled(rows, noisy(rows[:50], 5)))
    assert found.labels is not None
    json.dumps(found.as_json()["labels"], allow_nan=False)
    page = report.render(found, window(rows).rows, reference.rows, None)
    assert "40 of 50 labelled predictions are right: 80 % (67 to 89 %)." in page
    assert "<td>80 [67, 89]</td>" in page


def log_of_200(directory: Path) -> Path:
    """A log of 200 predictions of the released champion, the first without a face, and of three of another version."""
    version = Reference.load().model_version
    rows = predictions(200, seed=1, version=version)
    rows[0] |= {"outcome": "no_face", "faces": 0, "mood": None}
    rows += predictions(3, seed=2, version=f"{version}9")
    path = directory / "predictions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in sorted(rows, key=lambda row: str(row["time"]))))
    return path


@pytest.fixture
def served(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the log of `log_of_200`."""
    monkeypatch.setenv("MEAA_PREDICTION_LOG", str(log_of_200(checkout)))
    monkeypatch.setattr(tracking, "log", lambda *_: None)  # a new MLflow store takes ten seconds
    return checkout


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(feedback.app, arguments)


def sheet(directory: Path, *requests: str) -> str:
    path = directory / "sheet.csv"
    path.write_text("\n".join(["request,mood", *(f"{request},positive" for request in requests)]))
    return str(path)


def test_the_command_says_why_labels_cannot_be_joined_and_keeps_those_that_may_be(served: Path) -> None:
    found = run(sheet(served, "1-0", "1-1", "1-180", "2-0", "2-1", "nowhere"), "--since", "1h")
    assert found.exit_code == 0, found.output
    version = Reference.load().model_version
    for reason in (
        "1 of 6 labelled requests: not in the log.",
        "1 of 6 labelled requests: of frames in which no face was found.",
        f"2 of 6 labelled requests: answered by version {version}9; the figures are of version {version}.",
        "1 of 6 labelled requests: outside --since and --until.",
    ):
        assert reason in found.stderr
    assert "of 1 labelled prediction" in found.stdout
    assert "By mood" in found.stdout
    kept = labels.read(served / "live" / "labels.csv").rows
    assert set(kept["request"]) == {"1-1", "1-180", "2-0", "2-1"}


def test_without_a_file_the_kept_labels_of_the_window_are_measured(served: Path) -> None:
    assert run().exit_code == 2
    assert "name a file" in run().stderr
    assert run(sheet(served, "1-1", "1-2", "1-180")).exit_code == 0
    assert json.loads(run("--json").stdout)["images"] == 3
    assert json.loads(run("--json", "--until", "1h").stdout)["images"] == 2
    assert run("--since", "1h", "--until", "2h").exit_code == 2


def test_a_file_of_which_nothing_can_be_joined_ends_with_2_and_keeps_nothing(served: Path) -> None:
    found = run(sheet(served, "nowhere"))
    assert found.exit_code == 2
    assert "1 of 1 labelled requests: not in the log." in found.stderr
    assert "No label belongs to a prediction" in found.stderr
    assert not (served / "live").exists()


@pytest.mark.slow
def test_a_store_that_is_down_costs_a_warning_and_no_figure(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEAA_PREDICTION_LOG", str(log_of_200(checkout)))
    with closed_port() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        found = run(sheet(checkout, "1-1"), "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["images"] == 1
    assert "Nothing was recorded. MLflow does not answer" in found.stderr
