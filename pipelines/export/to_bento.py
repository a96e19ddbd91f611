"""The model bundle into BentoML's model store, where `bentoml build` finds it.

`python -m pipelines.export.to_bento` does so for the released bundle; the stage `package` does it for a new one. Needs no more
than the serving environment.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
from pathlib import Path

import bentoml
from bentoml.exceptions import NotFound

from service.bundle import CHECKOUT_BUNDLE, MODEL_NAME
from service.classifier import METADATA_FILE, ClassifierMetadata


def import_bundle(directory: Path = CHECKOUT_BUNDLE) -> bentoml.Tag:
    """Copy a model bundle into BentoML's model store, as its latest `MODEL_NAME`.

    The version is made from the registry's version and the content, so that the same bundle gets the same tag on
    every machine.

    Args:
        directory: a bundle with `detector/` and `classifier/`.

    Returns:
        The tag in the store.

    Raises:
        FileNotFoundError: there is no bundle in the directory.
    """
    metadata = ClassifierMetadata.model_validate_json((directory / "classifier" / METADATA_FILE).read_bytes())
    tag = bentoml.Tag(MODEL_NAME, f"v{metadata.version}-{fingerprint(directory)[:12]}")
    with contextlib.suppress(NotFound):
        # One that is there already would keep its date and lose to newer ones; `bentoml build` takes the latest.
        bentoml.models.delete(tag)
    with bentoml.models.create(
        tag,
        labels={"architecture": metadata.name, "registry_version": metadata.version},
        metadata=metadata.model_dump(mode="json"),
    ) as model:
        shutil.copytree(directory, model.path, dirs_exist_ok=True)
    return tag


def fingerprint(directory: Path) -> str:
    """SHA-256, in hexadecimal, over the names and contents of all files under a directory."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> None:
    """Import a bundle and print its tag."""
    parser = argparse.ArgumentParser(description="Copy a model bundle into BentoML's model store.")
    parser.add_argument("bundle", nargs="?", type=Path, default=CHECKOUT_BUNDLE, help="default: the released bundle")
    print(import_bundle(parser.parse_args().bundle))


if __name__ == "__main__":
    main()
