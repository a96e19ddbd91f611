"""The model bundle into BentoML's model store, where `bentoml build` finds it.

`python -m pipelines.export.to_bento` imports the released bundle, the stage `package` a new one. The serving
environment is enough.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

import bentoml
from bentoml.exceptions import NotFound

from service.bundle import CHECKOUT_BUNDLE, MODEL_NAME
from service.classifier import METADATA_FILE, ClassifierMetadata

_NOT_SERVED: Final = ("reference", "rebased")


def import_bundle(directory: Path = CHECKOUT_BUNDLE) -> bentoml.Tag:
    """Copy a model bundle into BentoML's model store, as its latest `MODEL_NAME`.

    The tag's version consists of the release's number and a fingerprint of the files, so that the same bundle has the
    same tag on every machine. The label `digest` is that of the classifier, as in answers.

    Args:
        directory: Bundle with `detector/` and `classifier/`.

    Returns:
        The tag in the store.

    Raises:
        FileNotFoundError: there is no bundle in the directory.
    """
    metadata = ClassifierMetadata.model_validate_json((directory / "classifier" / METADATA_FILE).read_bytes())
    tag = bentoml.Tag(MODEL_NAME, f"v{metadata.version}-{fingerprint(directory)[:12]}")
    with contextlib.suppress(NotFound):
        # `bentoml build` takes the latest model by date, and an existing one would keep its old date.
        bentoml.models.delete(tag)
    with bentoml.models.create(
        tag,
        labels={"architecture": metadata.name, "release": metadata.version, "digest": metadata.digest},
        metadata=metadata.model_dump(mode="json"),
    ) as model:
        shutil.copytree(directory, model.path, dirs_exist_ok=True)
    return tag


def fingerprint(directory: Path) -> str:
    """SHA-256 of the names and contents of a bundle's files, in hexadecimal.

    The drift reference does not count: it changes with a rebase, and the answers do not.
    """
    digest = hashlib.sha256()
    files = (path for path in directory.rglob("*") if path.is_file())
    for path in sorted(path for path in files if path.relative_to(directory).parts[0] not in _NOT_SERVED):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    print(import_bundle(*map(Path, sys.argv[1:2])))  # the released bundle, or one in another directory
