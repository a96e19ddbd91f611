"""`python -m pipelines.ingest download NAME`: the public originals, which the other commands turn into Parquet files.

    python -m pipelines.ingest download fer2013     # the official CSV file, from Kaggle; needs an account there
    python -m pipelines.ingest download ferplus     # its FER+ votes
    python -m pipelines.ingest download photos      # the photos
    python -m pipelines.ingest download folders     # FER2013 as image folders, from Kaggle; no account, but no votes

DVC keeps the originals: `dvc import-url` fetches what has a URL, and `dvc add` takes what kagglehub fetched. Either
writes `NAME.dvc` beside the original, with its MD5 and, for a URL, the URL and ETag. The publishers state no checksums,
so the first download is trusted. From then on `NAME.dvc` pins the original: it is restored from DVC's cache if it is
lost or damaged, and a new download must have the same MD5. Commit `NAME.dvc` to share the pin.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import kagglehub
import kagglehub.config
import kagglehub.exceptions
import requests
import typer
import yaml
from dvc.dependency.base import DependencyDoesNotExistError
from dvc.exceptions import CheckoutError, DvcException
from dvc.repo import Repo

ORIGINALS: Final = Path("originals")
FERPLUS_URL: Final = "https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv"
PHOTOS_URL: Final = "https://github.com/muxspace/facial_expressions/archive/refs/heads/master.zip"
FER2013_COMPETITION: Final = "challenges-in-representation-learning-facial-expression-recognition-challenge"
FER2013_ARCHIVE: Final = "fer2013.tar.gz"
FER2013_FOLDERS: Final = "msambare/fer2013"

_NO_CREDENTIALS: Final = f"""Kaggle gives the official FER2013 only to its users, and no credentials were found.
 1. Accept the rules at https://www.kaggle.com/c/{FER2013_COMPETITION}/rules
 2. Create a token at https://www.kaggle.com/settings, section API
 3. Set KAGGLE_API_TOKEN (or KAGGLE_USERNAME and KAGGLE_KEY), or save the token where Kaggle says
Or download {FER2013_ARCHIVE} in a browser, and give its path to `python -m pipelines.ingest fer2013`.
Or use the image folders, which need no account but have no votes: `python -m pipelines.ingest download folders`."""

_KAGGLE_ERRORS: Final = (
    requests.RequestException,
    kagglehub.exceptions.BackendError,
    kagglehub.exceptions.DataCorruptionError,
    kagglehub.exceptions.UnauthenticatedError,
    ValueError,  # credentials or an archive that it cannot read
)


class DownloadError(Exception):
    """An original cannot be fetched, or is not the pinned one; the message says why and what to do."""


def pin_of(original: Path) -> Path:
    """The DVC file that pins an original."""
    return original.with_name(f"{original.name}.dvc")


def ensure(original: Path, fetch: Callable[[Repo, Path], None]) -> bool:
    """Put an original into its place: from DVC's cache if it is pinned there, else from its source.

    Args:
        original: File or folder, inside the project.
        fetch: Downloads it and pins it.

    Returns:
        Whether it was fetched from its source.

    Raises:
        DownloadError: The source does not answer, the disk is full, or the original is not the pinned one any more.
    """
    pin = pin_of(original)
    try:
        original.parent.mkdir(parents=True, exist_ok=True)
        with Repo() as repo:
            pinned = _md5(pin) if pin.exists() else None
            if pinned and _restore(repo, pin):
                return False
            before = pin.read_bytes() if pinned else b""
            fetch(repo, original)
            found = _md5(pin)
            if pinned and found != pinned:
                pin.write_bytes(before)
                _remove(original)
                raise DownloadError(
                    f"{original} has changed at its source: {pin} pins the MD5 {pinned}, the download has {found}. "
                    f"If you trust the new one, remove {pin} and run this again."
                )
    except DvcException as error:
        raise DownloadError(str(error)) from error
    except OSError as error:
        raise DownloadError(f"{original} cannot be written: {error.strerror or error}.") from error
    return True


def _restore(repo: Repo, pin: Path) -> bool:
    """Whether an original is here as it is pinned, or could be restored from DVC's cache."""
    try:
        repo.checkout([str(pin)], force=True)
    except CheckoutError:
        return False
    return True


def _md5(pin: Path) -> str:
    """The checksum that a DVC file records."""
    try:
        return str(yaml.safe_load(pin.read_bytes())["outs"][0]["md5"])
    except (yaml.YAMLError, LookupError, TypeError):
        raise DownloadError(f"{pin} is not a DVC file. Remove it to trust the next download.") from None


def _remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def from_url(url: str) -> Callable[[Repo, Path], None]:
    """Downloads by `dvc import-url`."""

    def fetch(repo: Repo, original: Path) -> None:
        try:
            repo.imp_url(url, str(original), force=True)
        except DependencyDoesNotExistError:  # also for a server that does not answer
            raise DownloadError(
                f"{url} does not exist, or the server does not answer. Check address and network, and run this again."
            ) from None
        except Exception as error:  # DVC lets the exceptions of its HTTP client through
            raise DownloadError(f"{url} could not be downloaded: {error}. Run this again.") from error

    return fetch


def from_kaggle(download: Callable[[Path], None]) -> Callable[[Repo, Path], None]:
    """Downloads by kagglehub, kept by `dvc add`; `download` takes the path to fill."""

    def fetch(repo: Repo, original: Path) -> None:
        # Aside, because kagglehub leaves incomplete files behind.
        with tempfile.TemporaryDirectory(dir=original.parent, prefix=".download-") as directory:
            staged = Path(directory) / original.name
            try:
                download(staged)
            except _KAGGLE_ERRORS as error:
                raise DownloadError(f"Kaggle did not give {original.name}: {error}") from error
            _remove(original)
            shutil.move(staged, original)
        repo.add([str(original)], force=True)

    return fetch


def competition_file(path: Path) -> None:
    """Download the file of the FER2013 competition that is named as `path`, with the user's Kaggle account."""
    if kagglehub.config.get_kaggle_credentials() is None:
        raise DownloadError(_NO_CREDENTIALS)
    kagglehub.competition_download(FER2013_COMPETITION, path=path.name, output_dir=str(path.parent))


def image_folders(path: Path) -> None:
    """Download Kaggle's dataset with FER2013 as image folders."""
    kagglehub.dataset_download(FER2013_FOLDERS, output_dir=str(path))
    shutil.rmtree(path / ".complete", ignore_errors=True)  # kagglehub's own mark


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a folder, which appears only when it is complete and replaces an older one.

    Raises:
        DownloadError: The archive is damaged; it is removed together with its pin.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as directory:
        staged = Path(directory) / folder.name
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(staged)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            archive.unlink()
            pin_of(archive).unlink()
            raise DownloadError(
                f"{archive} was no whole zip archive, and was removed: {error} Run this again."
            ) from error
        _remove(folder)
        shutil.move(staged, folder)


# The command line

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Download the public originals of the dataset.")

_Folder = Annotated[Path, typer.Option("--to", file_okay=False, help="Folder for the originals, inside the project.")]


@app.command()
def fer2013(to: _Folder = ORIGINALS) -> None:
    """The official fer2013.csv, in an archive, from the Kaggle competition of 2013 (needs an account)."""
    _run(to / FER2013_ARCHIVE, from_kaggle(competition_file))


@app.command()
def folders(to: _Folder = ORIGINALS) -> None:
    """FER2013 as folders of images, from Kaggle's dataset msambare/fer2013."""
    _run(to / "fer2013-folders", from_kaggle(image_folders))


@app.command()
def ferplus(
    to: _Folder = ORIGINALS,
    url: Annotated[str, typer.Option(envvar="MEAA_FERPLUS_URL", help="Address of the file.")] = FERPLUS_URL,
) -> None:
    """FER+'s votes, fer2013new.csv, from github.com/microsoft/FERPlus."""
    _run(to / "fer2013new.csv", from_url(url))


@app.command()
def photos(
    to: _Folder = ORIGINALS,
    url: Annotated[str, typer.Option(envvar="MEAA_PHOTOS_URL", help="Address of the zip archive.")] = PHOTOS_URL,
) -> None:
    """The photos, a zip archive of github.com/muxspace/facial_expressions, downloaded and unpacked."""
    _run(to / "facial_expressions.zip", from_url(url), to / "facial_expressions")


def _run(original: Path, fetch: Callable[[Repo, Path], None], unpacked: Path | None = None) -> None:
    """Ensure that an original is here, unpacked if a folder is given; exit with status 1 if that fails."""
    logging.getLogger("dvc").setLevel(logging.WARNING)  # this command says itself what it did
    try:
        fetched = ensure(original, fetch)
        if unpacked and (fetched or not unpacked.exists()):
            unpack(original, unpacked)
    except DownloadError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{original}: {'downloaded' if fetched else 'here already'}, pinned by {pin_of(original)}")
