"""Stage `reliability`: which answers of the champion can be trusted, and how often that is wrong.

Fits the rule of `service.quality` on the validation split: FER2013's faces and crops of the photos, clean and under
every corruption, and the photos as the service sees them. Then measures, on validation and on test, the error and the
coverage of what the rule calls reliable. The test split decides nothing. Writes `paths.RELIABILITY`: the rule, which
`package` puts beside the classifier, the report, and a plot of risk against coverage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipelines import paths
from pipelines.data.splits import photos_of_split
from pipelines.evaluation import plots
from pipelines.evaluation.metrics import rounded
from pipelines.evaluation.predictions import open_classifier
from pipelines.evaluation.reliability import Limit, fit, risk_and_coverage, risk_by_mood, risk_coverage_curve
from pipelines.evaluation.reliability_groups import CLEAN, Group, corrupted_groups, photo_groups
from pipelines.params import Params
from pipelines.registry.champion import Champion
from pipelines.registry.measurement import SPLITS, face_sets
from service.classifier import GRAPH_FILE
from service.detector import FaceDetector
from service.estimator import MoodEstimator
from service.quality import RULE_FILE, ReliabilityRule

Groups = Mapping[str, Mapping[str, Group]]
"""Groups by name, for each source of faces."""

SOURCES = {"fer2013": "FER2013", "photos": "photos, cropped", "snapshots": "photos, through MTCNN"}
"""Titles of the sources. Corruptions are those of crops; `snapshots` are whole photos, and those of turned heads."""


def groups_of(estimator: MoodEstimator, params: Params) -> dict[str, dict[str, dict[str, Group]]]:
    """Groups of both splits, by split, source and name.

    Raises:
        FileNotFoundError: The face sets are missing.
        DatasetError: The photos or the table of people are missing.
    """
    classifier, found = estimator.classifier, {}
    for split, faces in face_sets(classifier.metadata.input).items():
        named: dict[str, dict[str, Group]] = {}
        for source in ("fer2013", "photos"):
            own = faces.of_source(source)
            own = own.select(own.ferplus_mood >= 0)
            named[source] = corrupted_groups(classifier, own.pixels, own.ferplus_mood, params.reliability.seed)
        photos = photos_of_split(paths.PHOTOS, params.prepare, split)
        found[split] = {**named, "snapshots": photo_groups(estimator, paths.PHOTOS, photos)}
    return found


def report(rule: ReliabilityRule, limit: Limit, splits: Mapping[str, Groups]) -> dict[str, object]:
    """The content of the report: what the rule does to every group, and to each mood of clean faces."""
    return {
        "max_error": limit.max_error,
        "level": limit.level,
        "groups": {
            split: {
                source: {name: risk_and_coverage(group, rule) for name, group in named.items()}
                for source, named in sources.items()
            }
            for split, sources in splits.items()
        },
        "moods": {
            split: {source: risk_by_mood(named[CLEAN], rule) for source, named in sources.items() if CLEAN in named}
            for split, sources in splits.items()
        },
    }


def main() -> None:
    """Fit the rule and write rule, report and plot.

    Raises:
        FileNotFoundError: There is no champion yet, or the face sets are missing.
    """
    params, champion = Params.read(), Champion.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run the stage `register` (`dvc repro`).")
    record, graph = champion.record, champion.candidate.model / GRAPH_FILE
    classifier = open_classifier(graph, record.architecture, record.input, record.temperature)
    estimator = MoodEstimator(FaceDetector(paths.BUNDLE / "detector"), classifier)
    splits = groups_of(estimator, params)
    limit = Limit(params.reliability.max_error, params.reliability.level)
    rule = fit(splits["validation"], limit).model_copy(update={"model_digest": classifier.metadata.digest})

    found = rounded(report(rule, limit, splits))
    curves = {
        SOURCES[source]: {
            name: (risk_coverage_curve(group), risk_and_coverage(group, rule)) for name, group in named.items()
        }
        for source, named in splits["test"].items()
    }
    figure = plots.risk_coverage(f"{record.architecture}, version {record.version}: test", curves, limit.max_error)
    paths.RELIABILITY.mkdir(parents=True, exist_ok=True)
    (paths.RELIABILITY / RULE_FILE).write_text(rule.model_dump_json(indent=2) + "\n")
    (paths.RELIABILITY / paths.RELIABILITY_REPORT).write_text(json.dumps(found, indent=2) + "\n")
    plots.save(figure, paths.RELIABILITY / paths.RISK_COVERAGE_PICTURE)
    print(rule.model_dump_json(indent=2))
    for split in SPLITS:
        for source, named in splits[split].items():
            for name, group in named.items():
                one = risk_and_coverage(group, rule)
                print(
                    f"{split} {source} {name}: {one['faces']:,} faces, {one['coverage']:.1%} reliable, "
                    f"{one['reliable_error']:.1%} of these wrong (of all: {one['error']:.1%})"
                )


if __name__ == "__main__":
    main()
