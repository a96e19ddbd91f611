"""`python -m pipelines.model_card`: the released model's card, from today's reports and template.

The stage `package` writes the card too; this command leaves the released graphs as they are.
"""

from __future__ import annotations

from pipelines import paths
from pipelines.model_card.render import MODEL_CARD_FILE, write
from pipelines.registry.champion import Champion
from service.classifier import METADATA_FILE, ClassifierMetadata


def main() -> None:
    """Write the card beside the released classifier.

    Raises:
        FileNotFoundError: there is no champion, no released classifier or no report.
        ValueError: the released classifier is not the champion.
    """
    champion, directory = Champion.read(), paths.BUNDLE / "classifier"
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run the stage `register` (`dvc repro`).")
    released = ClassifierMetadata.model_validate_json((directory / METADATA_FILE).read_bytes())
    record = champion.record
    if (released.name, released.version) != (record.architecture, record.version):
        raise ValueError(
            f"{directory} has {released.name} version {released.version}, the champion is {record.architecture} "
            f"version {record.version}: run the stage `package` (`dvc repro`)"
        )
    write(champion, directory)
    print(f"{directory / MODEL_CARD_FILE} describes {record.architecture} version {record.version}.")


if __name__ == "__main__":
    main()
