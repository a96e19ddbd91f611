"""Fetch the public originals of the dataset, which `pipelines.ingest` turns into its Parquet files.

    python -m pipelines.ingest.download fer2013     # the official CSV file, from Kaggle; needs an account there
    python -m pipelines.ingest.download ferplus     # its FER+ votes
    python -m pipelines.ingest.download photos      # the photos
    python -m pipelines.ingest.download folders     # FER2013 as image folders, from Kaggle; needs no account, has no votes

Checksums: the publishers publish none, and this project has not recorded any. Therefore the first download is
trusted, and its SHA-256 is recorded beside it in a lock file (`NAME.sha256`, which `sha256sum --check` reads); every
later run verifies against that. Whoever knows a checksum pins it with `--sha256`, and whoever shares the lock file
shares the trust. The archive of the photos is made by GitHub on demand, of the branch as it stands: if it ever
changes, the checksum differs though nothing is wrong, and removing the lock file accepts the new one.

A download that breaks off leaves nothing behind that could be mistaken for the whole.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import kagglehub
import kagglehub.config
import kagglehub.exceptions
import pooch
import requests
import typer

ORIGINALS: Final = Path("originals")
"""Where the originals are put."""

FERPLUS_URL: Final = "https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv"
PHOTOS_URL: Final = "https://github.com/muxspace/facial_expressions/archive/refs/heads/master.zip"

FER2013_COMPETITION: Final = "challenges-in-representation-learning-facial-expression-recognition-challenge"
FER2013_ARCHIVE: Final = "fer2013.tar.gz"
FER2013_FOLDERS: Final = "msambare/fer2013"

_CHUNK_BYTES: Final[int] = 1 << 18
_TIMEOUT_SECONDS: Final[float] = 30.0

_NO_CREDENTIALS: Final = f"""Kaggle gives the official FER2013 only to its users, and no credentials of one were found.
 1. Accept the rules at https://www.kaggle.com/c/{FER2013_COMPETITION}/rules
 2. Create a token at https://www.kaggle.com/settings, section API
 3. Set KAGGLE_API_TOKEN (or KAGGLE_USERNAME and KAGGLE_KEY), or save the token where Kaggle says
Or download {FER2013_ARCHIVE} in a browser, and give its path to `python -m pipelines.ingest fer2013`.
Or use the image folders, which need no account but have no FER+ votes: `python -m pipelines.ingest.download folders`."""

_KAGGLE_ERRORS: Final = (
    requests.RequestException,
    kagglehub.exceptions.BackendError,
    kagglehub.exceptions.DataCorruptionError,
    kagglehub.exceptions.UnauthenticatedError,
    ValueError,  # credentials or an archive that it cannot read
)


class DownloadError(Exception):
    """An original could not be fetched, or is not what it was; the message says why and what to do."""


@dataclass(frozen=True)
class Download:
    """An original that lies here, with its checksums recorded beside it.

    Attributes:
        path: the file, or the folder.
        size: in bytes, of all files.
        fetched: whether it was fetched just now.
        verified: whether its checksum was known before; else what came was trusted.
    """

    path: Path
    size: int
    fetched: bool
    verified: bool


# Lock files


def lock_path(path: Path) -> Path:
    """The lock file of a file or folder."""
    return path.with_name(f"{path.name}.sha256")


def checksums(path: Path) -> dict[str, str]:
    """SHA-256, in lower-case hexadecimal, of a file, or of each file in a folder; by path relative to its parent."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    sums = {}
    for file in files:
        with file.open("rb") as stream:
            sums[file.relative_to(path.parent).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums


def write_lock(path: Path, sums: dict[str, str]) -> None:
    """Record the checksums of a file or folder, in the format of `sha256sum`."""
    lock_path(path).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")


def read_lock(path: Path) -> dict[str, str] | None:
    """The recorded checksums of a file or folder; None where there is no lock file.

    Raises:
        DownloadError: the lock file is damaged.
    """
    lock = lock_path(path)
    if not lock.exists():
        return None
    sums = {}
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), start=1):
        matched = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not matched or Path(matched[2]).parts[0] != path.name:
            raise DownloadError(
                f"{lock}:{number}: no checksum of {path.name}. Remove the file to trust what comes next."
            )
        sums[matched[2]] = matched[1]
    if not sums:
        raise DownloadError(f"{lock} is empty. Remove the file to trust what comes next.")
    return sums


def _differing(sums: dict[str, str], known: dict[str, str]) -> list[str]:
    """Names that are only in one of the two, or have another checksum."""
    return sorted(name for name in sums.keys() | known.keys() if sums.get(name) != known.get(name))


def _here_already(path: Path, known: dict[str, str] | None) -> bool:
    """Whether the file or folder is here, and is the known one where one is known."""
    return path.exists() and (known is None or not _differing(checksums(path), known))


def _settle(path: Path, known: dict[str, str] | None, *, fetched: bool) -> Download:
    """Record the checksums of what is in its place."""
    sums = checksums(path)
    write_lock(path, sums)
    size = sum((path.parent / name).stat().st_size for name in sums)
    return Download(path, size, fetched=fetched, verified=known is not None)


# Fetching


def fetch_http(url: str, path: Path, *, sha256: str | None = None, progress: bool = True) -> Download:
    """Fetch a file over HTTP, unless it is here already and matches.

    Args:
        url: where it is.
        path: where it goes.
        sha256: the known checksum; without one that of the lock file counts.
        progress: whether a progress bar is shown on standard error.

    Raises:
        DownloadError: the server did not answer, answered with an error or broke off; or the checksum differs. What
            was at `path` before stays.
    """
    known = {path.name: sha256} if sha256 else read_lock(path)
    if _here_already(path, known):
        return _settle(path, known, fetched=False)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{known[path.name]}" if known else None,
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_SECONDS),
        )
    except requests.HTTPError as error:
        raise DownloadError(f"The server refused: {error}.") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url} could not be fetched, or broke off: {error}. Run this again.") from error
    except ValueError as error:  # how pooch tells that the checksum differs
        raise DownloadError(f"{url}: {error} {_accept_hint(path)}") from error
    return _settle(path, known, fetched=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a folder that appears only when it is complete, in place of an older one.

    Raises:
        DownloadError: the archive is damaged; it is removed together with its lock file.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as directory:
        staged = Path(directory) / folder.name
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(staged)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            archive.unlink()
            lock_path(archive).unlink(missing_ok=True)
            raise DownloadError(
                f"{archive} was no whole zip archive, and was removed: {error}. Run this again."
            ) from error
        _put_in_place(staged, folder)


def fetch_competition_file(competition: str, path: Path, *, sha256: str | None = None) -> Download:
    """Fetch the file of a Kaggle competition that is named as the path, unless it is here already and matches.

    Raises:
        DownloadError: there are no credentials, Kaggle refused, the connection broke off, or the checksum differs.
    """

    def fetch(staged: Path) -> None:
        if kagglehub.config.get_kaggle_credentials() is None:
            raise DownloadError(_NO_CREDENTIALS)
        kagglehub.competition_download(competition, path=path.name, output_dir=str(staged.parent))

    return _fetch_from_kaggle(fetch, path, {path.name: sha256} if sha256 else read_lock(path))


def fetch_dataset(handle: str, folder: Path) -> Download:
    """Fetch a whole Kaggle dataset into a folder, unless it is here already and matches.

    Raises:
        DownloadError: Kaggle refused, the connection broke off, or a checksum differs.
    """

    def fetch(staged: Path) -> None:
        kagglehub.dataset_download(handle, output_dir=str(staged))
        shutil.rmtree(staged / ".complete", ignore_errors=True)  # kagglehub's own mark

    return _fetch_from_kaggle(fetch, folder, read_lock(folder))


def _fetch_from_kaggle(fetch: Callable[[Path], None], path: Path, known: dict[str, str] | None) -> Download:
    """Fetch with kagglehub to a place aside, verify, and only then put in place.

    kagglehub leaves what it has where a download breaks off, which must not be taken for the whole.

    Args:
        fetch: makes the file or folder at the path that it is given.
        path: where it is to be in the end.
        known: checksums, where there are any.
    """
    if _here_already(path, known):
        return _settle(path, known, fetched=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as directory:
        staged = Path(directory) / path.name
        try:
            fetch(staged)
        except _KAGGLE_ERRORS as error:
            raise DownloadError(f"Kaggle did not give {path.name}: {error}") from error
        if known is not None and (wrong := _differing(checksums(staged), known)):
            shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5:,} more" if len(wrong) > 5 else "")
            raise DownloadError(f"The checksum differs from the known one: {shown}. {_accept_hint(path)}")
        _put_in_place(staged, path)
    return _settle(path, known, fetched=True)


def _accept_hint(path: Path) -> str:
    """What to do where a checksum differs."""
    return f"If the original has changed and you trust it, remove {lock_path(path)} and run this again."


def _put_in_place(staged: Path, path: Path) -> None:
    """Move a file or folder to where it belongs, in place of what is there."""
    if path.is_dir():
        shutil.rmtree(path)
    shutil.move(staged, path)


# The command line

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Fetch the public originals of the dataset.")


def _sha256(text: str | None) -> str | None:
    """A checked checksum, in lower case."""
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise typer.BadParameter("a SHA-256 checksum has 64 hexadecimal digits")
    return text and text.lower()


_Folder = Annotated[Path, typer.Option("--to", file_okay=False, help="The folder that originals are put in.")]
_Checksum = Annotated[str | None, typer.Option("--sha256", callback=_sha256, help="The checksum that it must have.")]
_Progress = Annotated[bool, typer.Option(help="Show a progress bar.")]


@app.command()
def fer2013(to: _Folder = ORIGINALS, sha256: _Checksum = None) -> None:
    """The official fer2013.csv, in an archive, from the Kaggle competition of 2013 (needs an account)."""
    _run(lambda: fetch_competition_file(FER2013_COMPETITION, to / FER2013_ARCHIVE, sha256=sha256))


@app.command()
def folders(to: _Folder = ORIGINALS) -> None:
    """FER2013 as folders of images, from Kaggle's dataset msambare/fer2013."""
    _run(lambda: fetch_dataset(FER2013_FOLDERS, to / "fer2013-folders"))


@app.command()
def ferplus(
    to: _Folder = ORIGINALS,
    url: Annotated[str, typer.Option(envvar="MEAA_FERPLUS_URL", help="Where the file is.")] = FERPLUS_URL,
    sha256: _Checksum = None,
    progress: _Progress = True,
) -> None:
    """FER+'s votes, fer2013new.csv, from github.com/microsoft/FERPlus."""
    _run(lambda: fetch_http(url, to / "fer2013new.csv", sha256=sha256, progress=progress))


@app.command()
def photos(
    to: _Folder = ORIGINALS,
    url: Annotated[str, typer.Option(envvar="MEAA_PHOTOS_URL", help="Where the zip archive is.")] = PHOTOS_URL,
    sha256: _Checksum = None,
    progress: _Progress = True,
) -> None:
    """The photos, a zip archive of github.com/muxspace/facial_expressions, fetched and unpacked."""
    folder = to / "facial_expressions"

    def fetch() -> Download:
        done = fetch_http(url, to / "facial_expressions.zip", sha256=sha256, progress=progress)
        if done.fetched or not folder.exists():
            unpack(done.path, folder)
        return done

    _run(fetch)


def _run(fetch: Callable[[], Download]) -> None:
    """Fetch, and tell what is there now; exit with status 1 where it is not."""
    try:
        done = fetch()
    except DownloadError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    how = "fetched" if done.fetched else "here already"
    trust = "matches its known checksum" if done.verified else "checksum recorded on first use"
    typer.echo(f"{done.path}: {how}, {done.size:,} bytes, {trust} ({lock_path(done.path)})")


if __name__ == "__main__":
    app()
