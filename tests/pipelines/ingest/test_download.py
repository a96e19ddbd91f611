"""`python -m pipelines.ingest download`: the originals from their servers, here from one on 127.0.0.1."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import kagglesdk.kaggle_env
import pytest
import yaml
from dvc.repo import Repo
from typer.testing import Result

from pipelines.ingest import download
from tests.conftest import ROOT
from tests.support.ingesting import run

VOTES = b"Usage,Image name,neutral\n" + b"Training,fer0000000.png,4\n" * 20_000
ORIGINALS = Path("originals")
CSV = ORIGINALS / "fer2013new.csv"
CSV_PIN = ORIGINALS / "fer2013new.csv.dvc"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository as the working directory, as a clone of the project is one."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Repo.init(no_scm=True).close()
    return tmp_path / "project"


@dataclass
class Answer:
    """What the server says: a status, a body, and how many bytes of the body it sends before it hangs up."""

    body: bytes
    status: int = 200
    sent: int | None = None
    kind: str = "application/octet-stream"


@dataclass
class Server:
    """A web server with answers by path, until it is stopped."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answers.get(self.path, Answer(b"", 404))
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("ETag", f'"{md5(answer.body)}"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.sent])

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield Server(f"http://127.0.0.1:{http.server_port}", answers)
        http.shutdown()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def pinned(pin: Path) -> dict[str, Any]:
    """The source and the original, as a DVC file describes them."""
    content = yaml.safe_load(pin.read_text())
    return {**content.get("deps", [{}])[0], **content["outs"][0], "url": content.get("deps", [{}])[0].get("path")}


def lose(original: Path) -> None:
    """Remove an original and what DVC's cache has of it."""
    shutil.rmtree(original) if original.is_dir() else original.unlink()
    shutil.rmtree(".dvc/cache")


def left_in(folder: Path) -> list[str]:
    """Names of all that lies in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


# Over HTTP


@pytest.fixture
def votes_url(server: Server) -> str:
    server.answers["/fer2013new.csv"] = Answer(VOTES)
    return f"{server.url}/fer2013new.csv"


def ferplus(url: str) -> Result:
    return run("download", "ferplus", "--url", url)


def test_a_file_is_downloaded_whole_and_pinned_by_its_address_and_checksums(votes_url: str) -> None:
    result = ferplus(votes_url)
    assert result.exit_code == 0
    assert f"{CSV}: downloaded, pinned by {CSV_PIN}" in result.output
    assert CSV.read_bytes() == VOTES
    pin = pinned(CSV_PIN)
    assert (pin["url"], pin["checksum"], pin["md5"]) == (votes_url, f'"{md5(VOTES)}"', md5(VOTES))


def test_the_address_may_come_from_the_environment(votes_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEAA_FERPLUS_URL", votes_url)
    assert run("download", "ferplus").exit_code == 0
    assert CSV.read_bytes() == VOTES


def test_another_folder_can_be_named(votes_url: str) -> None:
    assert run("download", "ferplus", "--url", votes_url, "--to", "elsewhere").exit_code == 0
    assert Path("elsewhere/fer2013new.csv").read_bytes() == VOTES


def test_git_keeps_the_pin_and_not_the_original(project: Path, votes_url: str) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init(force=True).close()
    shutil.copy(ROOT / ".gitignore", project)
    ferplus(votes_url)
    seen = subprocess.run(["git", "ls-files", "--others", "--exclude-standard", ORIGINALS], capture_output=True)
    assert seen.stdout.decode().split() == [str(CSV_PIN)]


def test_an_original_that_is_here_is_verified_and_not_downloaded_again(server: Server, votes_url: str) -> None:
    ferplus(votes_url)
    server.answers.clear()
    again = ferplus(votes_url)
    assert again.exit_code == 0
    assert "here already" in again.output


def test_an_original_that_was_spoilt_or_lost_is_restored_without_the_server(server: Server, votes_url: str) -> None:
    ferplus(votes_url)
    server.answers.clear()
    CSV.write_bytes(VOTES[:-1])
    assert ferplus(votes_url).exit_code == 0
    assert CSV.read_bytes() == VOTES
    CSV.unlink()
    assert ferplus(votes_url).exit_code == 0
    assert CSV.read_bytes() == VOTES


def test_an_original_that_the_cache_lacks_is_downloaded_again(votes_url: str) -> None:
    ferplus(votes_url)
    before = CSV_PIN.read_bytes()
    lose(CSV)
    assert "downloaded" in ferplus(votes_url).output
    assert CSV.read_bytes() == VOTES
    assert CSV_PIN.read_bytes() == before


def test_an_original_that_changed_at_its_source_is_refused(server: Server, votes_url: str) -> None:
    ferplus(votes_url)
    before = CSV_PIN.read_bytes()
    lose(CSV)
    server.answers["/fer2013new.csv"] = Answer(b"something else")
    result = ferplus(votes_url)
    assert result.exit_code == 1
    assert f"pins the MD5 {md5(VOTES)}, the download has {md5(b'something else')}" in result.output
    assert f"remove {CSV_PIN}" in result.output
    assert left_in(ORIGINALS) == [CSV_PIN.name]
    assert CSV_PIN.read_bytes() == before


def test_removing_the_pin_accepts_the_changed_original(server: Server, votes_url: str) -> None:
    ferplus(votes_url)
    CSV_PIN.unlink()
    server.answers["/fer2013new.csv"] = Answer(b"something else")
    assert ferplus(votes_url).exit_code == 0
    assert CSV.read_bytes() == b"something else"
    assert pinned(CSV_PIN)["md5"] == md5(b"something else")


@pytest.mark.parametrize("content", ["", "not a pin\n", "outs: [{md5: '1', path: other.csv}]\n"])
def test_a_damaged_pin_is_an_error_that_names_it(votes_url: str, content: str) -> None:
    ORIGINALS.mkdir()
    CSV_PIN.write_text(content)
    result = ferplus(votes_url)
    assert result.exit_code == 1
    assert str(CSV_PIN) in result.output
    assert left_in(ORIGINALS) == [CSV_PIN.name]


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_told_and_leaves_nothing(server: Server, votes_url: str, status: int) -> None:
    server.answers["/fer2013new.csv"] = Answer(b"no", status)
    result = ferplus(votes_url)
    assert result.exit_code == 1
    assert f"{votes_url} does not exist, or the server does not answer" in result.output
    assert left_in(ORIGINALS) == []


def test_a_download_that_breaks_off_is_an_error_and_leaves_nothing(server: Server, votes_url: str) -> None:
    server.answers["/fer2013new.csv"] = Answer(VOTES, sent=len(VOTES) // 2)
    result = ferplus(votes_url)
    assert result.exit_code == 1
    assert f"{votes_url} could not be downloaded" in result.output
    assert "Run this again." in result.output
    assert left_in(ORIGINALS) == []


def test_a_server_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result = ferplus("http://127.0.0.1:9/fer2013new.csv")
    assert result.exit_code == 1
    assert "Check address and network" in result.output


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(votes_url: str) -> None:
    ORIGINALS.write_text("a file where a folder should be")
    result = run("download", "ferplus", "--url", votes_url, "--to", ORIGINALS / "sub")
    assert result.exit_code == 1
    assert f"{ORIGINALS / 'sub/fer2013new.csv'} cannot be written: Not a directory" in result.output


def test_outside_a_clone_of_the_project_the_error_says_so(votes_url: str) -> None:
    shutil.rmtree(".dvc")
    result = ferplus(votes_url)
    assert result.exit_code == 1
    assert "not inside of a DVC repository" in result.output


def zip_of(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


@pytest.fixture
def photos_url(server: Server) -> str:
    server.answers["/master.zip"] = Answer(
        zip_of({"facial_expressions-master/data/legend.csv": b"user.id,image,emotion\n"})
    )
    return f"{server.url}/master.zip"


def photos(url: str) -> Result:
    return run("download", "photos", "--url", url)


def test_the_photos_are_downloaded_and_unpacked(photos_url: str) -> None:
    assert photos(photos_url).exit_code == 0
    legend = ORIGINALS / "facial_expressions" / "facial_expressions-master" / "data" / "legend.csv"
    assert legend.read_bytes() == b"user.id,image,emotion\n"


def test_photos_that_were_removed_are_unpacked_again_from_the_archive_here(server: Server, photos_url: str) -> None:
    photos(photos_url)
    shutil.rmtree(ORIGINALS / "facial_expressions")
    server.answers.clear()
    assert photos(photos_url).exit_code == 0
    assert (ORIGINALS / "facial_expressions" / "facial_expressions-master").is_dir()


def test_an_archive_that_is_none_is_not_kept(server: Server, photos_url: str) -> None:
    server.answers["/master.zip"] = Answer(b"<html>Please log in</html>")
    result = photos(photos_url)
    assert result.exit_code == 1
    assert "no whole zip archive" in result.output
    assert left_in(ORIGINALS) == []


def test_nothing_is_unpacked_outside_the_folder(server: Server, photos_url: str) -> None:
    server.answers["/master.zip"] = Answer(zip_of({"../../escaped.txt": b"", "/absolute.txt": b""}))
    assert photos(photos_url).exit_code == 0
    assert left_in(ORIGINALS / "facial_expressions") == ["absolute.txt", "escaped.txt"]
    assert left_in(ORIGINALS) == ["facial_expressions", "facial_expressions.zip", "facial_expressions.zip.dvc"]


# From Kaggle: kagglehub itself, against a server that speaks as much of Kaggle's API as it needs

FILE = "/api/v1/competitions.CompetitionApiService/DownloadDataFile"
DATASET = "/api/v1/datasets.DatasetApiService/GetDataset"
DATASET_ARCHIVE = "/api/v1/datasets.DatasetApiService/DownloadDataset"


@pytest.fixture
def kaggle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Kaggle, and a user without credentials."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    # The address of that environment is fixed; another port cannot be had otherwise.
    monkeypatch.setitem(kagglesdk.kaggle_env._env_to_endpoint, kagglesdk.kaggle_env.KaggleEnv.LOCAL, server.url)
    return server


@pytest.fixture
def logged_in(kaggle: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "0" * 32)


def test_without_credentials_the_message_says_how_to_get_them(kaggle: Server) -> None:
    result = run("download", "fer2013")
    assert result.exit_code == 1
    assert "KAGGLE_API_TOKEN" in result.output
    assert f"{download.FER2013_COMPETITION}/rules" in result.output
    assert "pipelines.ingest download folders" in result.output
    assert left_in(ORIGINALS) == []


@pytest.mark.usefixtures("logged_in")
def test_the_official_archive_is_downloaded_from_kaggle_and_pinned(kaggle: Server) -> None:
    kaggle.answers[FILE] = Answer(b"an archive")
    assert run("download", "fer2013").exit_code == 0
    assert (ORIGINALS / "fer2013.tar.gz").read_bytes() == b"an archive"
    assert pinned(ORIGINALS / "fer2013.tar.gz.dvc")["md5"] == md5(b"an archive")
    assert left_in(ORIGINALS) == ["fer2013.tar.gz", "fer2013.tar.gz.dvc"]


@pytest.mark.usefixtures("logged_in")
def test_an_official_archive_that_changed_is_not_kept(kaggle: Server) -> None:
    kaggle.answers[FILE] = Answer(b"an archive")
    run("download", "fer2013")
    lose(ORIGINALS / "fer2013.tar.gz")
    kaggle.answers[FILE] = Answer(b"another archive")
    result = run("download", "fer2013")
    assert result.exit_code == 1
    assert "fer2013.tar.gz has changed at its source" in result.output
    assert left_in(ORIGINALS) == ["fer2013.tar.gz.dvc"]


@pytest.mark.usefixtures("logged_in")
def test_rules_that_were_not_accepted_are_told(kaggle: Server) -> None:
    kaggle.answers[FILE] = Answer(b"{}", 403)
    result = run("download", "fer2013")
    assert result.exit_code == 1
    assert "accepted the competition rules" in result.output
    assert left_in(ORIGINALS) == []


@pytest.mark.usefixtures("logged_in")
def test_an_official_archive_that_breaks_off_leaves_nothing(kaggle: Server) -> None:
    kaggle.answers[FILE] = Answer(b"an archive", sent=5)
    result = run("download", "fer2013")
    assert result.exit_code == 1
    assert "Kaggle did not give fer2013.tar.gz" in result.output
    assert left_in(ORIGINALS) == []


@pytest.fixture
def folders(kaggle: Server) -> Server:
    kaggle.answers[DATASET] = Answer(json.dumps({"currentVersionNumber": 1}).encode(), kind="application/json")
    kaggle.answers[DATASET_ARCHIVE] = Answer(zip_of({"train/angry/x.jpg": b"one", "test/happy/y.jpg": b"two"}))
    return kaggle


FACE = ORIGINALS / "fer2013-folders" / "train" / "angry" / "x.jpg"


def test_the_image_folders_are_downloaded_without_credentials(folders: Server) -> None:
    assert run("download", "folders").exit_code == 0
    assert FACE.read_bytes() == b"one"
    assert left_in(ORIGINALS / "fer2013-folders") == ["test", "train"]
    assert pinned(ORIGINALS / "fer2013-folders.dvc")["nfiles"] == 2


def test_image_folders_that_are_here_are_verified_and_not_downloaded_again(folders: Server) -> None:
    run("download", "folders")
    folders.answers.clear()
    assert "here already" in run("download", "folders").output


def test_an_image_that_was_lost_is_restored(folders: Server) -> None:
    run("download", "folders")
    FACE.unlink()
    assert run("download", "folders").exit_code == 0
    assert FACE.read_bytes() == b"one"


def test_image_folders_that_changed_at_their_source_are_refused(folders: Server) -> None:
    run("download", "folders")
    lose(ORIGINALS / "fer2013-folders")
    folders.answers[DATASET_ARCHIVE] = Answer(zip_of({"train/angry/x.jpg": b"one", "test/happy/y.jpg": b"other"}))
    result = run("download", "folders")
    assert result.exit_code == 1
    assert "fer2013-folders has changed at its source" in result.output
    assert left_in(ORIGINALS) == ["fer2013-folders.dvc"]
