"""`python -m pipelines.ingest.download`: the originals from their servers, here from one on 127.0.0.1."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree, which
from threading import Thread

import kagglesdk.kaggle_env
import pytest
from typer.testing import CliRunner, Result

from pipelines.ingest import download

VOTES = b"Usage,Image name,neutral\n" + b"Training,fer0000000.png,4\n" * 20_000


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
            self.end_headers()
            self.wfile.write(answer.body[: answer.sent])

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield Server(f"http://127.0.0.1:{http.server_port}", answers)
        http.shutdown()


def run(command: str, to: Path, *options: str, env: Mapping[str, str] | None = None) -> Result:
    """What the command line answers; `output` holds both of its streams."""
    result = CliRunner(env=env).invoke(download.app, [command, "--to", str(to), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left_in(folder: Path) -> list[str]:
    """Names of all that lies in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


# Over HTTP


@pytest.fixture
def votes_url(server: Server) -> str:
    server.answers["/fer2013new.csv"] = Answer(VOTES)
    return f"{server.url}/fer2013new.csv"


def test_a_file_is_fetched_whole(tmp_path: Path, votes_url: str) -> None:
    assert run("ferplus", tmp_path / "originals", "--url", votes_url).exit_code == 0
    assert (tmp_path / "originals" / "fer2013new.csv").read_bytes() == VOTES


def test_the_address_may_come_from_the_environment(tmp_path: Path, votes_url: str) -> None:
    assert run("ferplus", tmp_path, env={"MEAA_FERPLUS_URL": votes_url}).exit_code == 0
    assert (tmp_path / "fer2013new.csv").read_bytes() == VOTES


def test_the_first_download_says_that_it_was_trusted_and_records_its_checksum(tmp_path: Path, votes_url: str) -> None:
    assert "checksum recorded on first use" in run("ferplus", tmp_path, "--url", votes_url).output
    assert (tmp_path / "fer2013new.csv.sha256").read_text() == f"{sha256(VOTES)}  fer2013new.csv\n"


@pytest.mark.skipif(which("sha256sum") is None, reason="there is no sha256sum on this system")
def test_sha256sum_can_check_the_lock_file(tmp_path: Path, votes_url: str) -> None:
    run("ferplus", tmp_path, "--url", votes_url)
    checked = subprocess.run(["sha256sum", "--check", "fer2013new.csv.sha256"], cwd=tmp_path, capture_output=True)
    assert checked.returncode == 0


def test_what_is_here_already_is_verified_and_not_fetched_again(tmp_path: Path, server: Server, votes_url: str) -> None:
    run("ferplus", tmp_path, "--url", votes_url)
    server.answers.clear()
    again = run("ferplus", tmp_path, "--url", votes_url)
    assert again.exit_code == 0
    assert "here already" in again.output
    assert "matches its known checksum" in again.output


def test_a_file_that_was_spoilt_here_is_fetched_again(tmp_path: Path, votes_url: str) -> None:
    run("ferplus", tmp_path, "--url", votes_url)
    (tmp_path / "fer2013new.csv").write_bytes(VOTES[:-1])
    assert run("ferplus", tmp_path, "--url", votes_url).exit_code == 0
    assert (tmp_path / "fer2013new.csv").read_bytes() == VOTES


def test_an_original_that_changed_since_the_first_download_is_refused(
    tmp_path: Path, server: Server, votes_url: str
) -> None:
    run("ferplus", tmp_path, "--url", votes_url)
    (tmp_path / "fer2013new.csv").unlink()
    server.answers["/fer2013new.csv"] = Answer(b"something else")
    result = run("ferplus", tmp_path, "--url", votes_url)
    assert result.exit_code == 1
    assert sha256(VOTES) in result.output
    assert f"remove {tmp_path / 'fer2013new.csv.sha256'}" in result.output
    assert left_in(tmp_path) == ["fer2013new.csv.sha256"]


def test_removing_the_lock_file_accepts_the_changed_original(tmp_path: Path, server: Server, votes_url: str) -> None:
    run("ferplus", tmp_path, "--url", votes_url)
    for file in tmp_path.iterdir():
        file.unlink()
    server.answers["/fer2013new.csv"] = Answer(b"something else")
    assert run("ferplus", tmp_path, "--url", votes_url).exit_code == 0
    assert sha256(b"something else") in (tmp_path / "fer2013new.csv.sha256").read_text()


def test_a_known_checksum_can_be_given(tmp_path: Path, votes_url: str) -> None:
    result = run("ferplus", tmp_path, "--url", votes_url, "--sha256", sha256(VOTES).upper())
    assert result.exit_code == 0
    assert "matches its known checksum" in result.output


def test_a_file_without_the_given_checksum_is_not_kept(tmp_path: Path, votes_url: str) -> None:
    result = run("ferplus", tmp_path, "--url", votes_url, "--sha256", "0" * 64)
    assert result.exit_code == 1
    assert sha256(VOTES) in result.output
    assert left_in(tmp_path) == []


def test_a_checksum_that_is_none_is_a_mistake_in_the_command(tmp_path: Path, votes_url: str) -> None:
    assert run("ferplus", tmp_path, "--url", votes_url, "--sha256", "abc").exit_code == 2


@pytest.mark.parametrize("content", ["", "no checksum\n", f"{'0' * 64}  another_file.csv\n"])
def test_a_damaged_lock_file_is_an_error_that_names_it(tmp_path: Path, votes_url: str, content: str) -> None:
    lock = tmp_path / "fer2013new.csv.sha256"
    lock.write_text(content)
    result = run("ferplus", tmp_path, "--url", votes_url)
    assert result.exit_code == 1
    assert str(lock) in result.output
    assert left_in(tmp_path) == [lock.name]


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_told_and_leaves_nothing(
    tmp_path: Path, server: Server, votes_url: str, status: int
) -> None:
    server.answers["/fer2013new.csv"] = Answer(b"no", status)
    result = run("ferplus", tmp_path, "--url", votes_url)
    assert result.exit_code == 1
    assert str(status) in result.output
    assert votes_url in result.output
    assert left_in(tmp_path) == []


def test_a_download_that_breaks_off_is_an_error_and_leaves_nothing(
    tmp_path: Path, server: Server, votes_url: str
) -> None:
    server.answers["/fer2013new.csv"] = Answer(VOTES, sent=len(VOTES) // 2)
    result = run("ferplus", tmp_path, "--url", votes_url)
    assert result.exit_code == 1
    assert "broke off" in result.output
    assert left_in(tmp_path) == []


def test_a_server_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    result = run("ferplus", tmp_path, "--url", "http://127.0.0.1:9/fer2013new.csv", env={"NO_PROXY": "127.0.0.1"})
    assert result.exit_code == 1
    assert "could not be fetched" in result.output


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path: Path, votes_url: str) -> None:
    assert "100%" in run("ferplus", tmp_path / "a", "--url", votes_url).output
    assert "%" not in run("ferplus", tmp_path / "b", "--url", votes_url, "--no-progress").output


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


def test_the_photos_are_fetched_and_unpacked(tmp_path: Path, photos_url: str) -> None:
    assert run("photos", tmp_path, "--url", photos_url).exit_code == 0
    legend = tmp_path / "facial_expressions" / "facial_expressions-master" / "data" / "legend.csv"
    assert legend.read_bytes() == b"user.id,image,emotion\n"


def test_photos_that_were_removed_are_unpacked_again_from_the_archive_here(
    tmp_path: Path, server: Server, photos_url: str
) -> None:
    run("photos", tmp_path, "--url", photos_url)
    rmtree(tmp_path / "facial_expressions")
    server.answers.clear()
    assert run("photos", tmp_path, "--url", photos_url).exit_code == 0
    assert (tmp_path / "facial_expressions" / "facial_expressions-master").is_dir()


def test_an_archive_that_is_none_is_not_kept(tmp_path: Path, server: Server, photos_url: str) -> None:
    server.answers["/master.zip"] = Answer(b"<html>Please log in</html>")
    result = run("photos", tmp_path, "--url", photos_url)
    assert result.exit_code == 1
    assert "no whole zip archive" in result.output
    assert left_in(tmp_path) == []


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


def test_without_credentials_the_message_says_how_to_get_them(kaggle: Server, tmp_path: Path) -> None:
    result = run("fer2013", tmp_path / "originals")
    assert result.exit_code == 1
    assert "KAGGLE_API_TOKEN" in result.output
    assert f"{download.FER2013_COMPETITION}/rules" in result.output
    assert "pipelines.ingest.download folders" in result.output
    assert left_in(tmp_path / "originals") == []


@pytest.mark.usefixtures("logged_in")
def test_the_official_archive_is_fetched_from_kaggle(kaggle: Server, tmp_path: Path) -> None:
    kaggle.answers[FILE] = Answer(b"an archive")
    assert run("fer2013", tmp_path / "originals").exit_code == 0
    assert (tmp_path / "originals" / "fer2013.tar.gz").read_bytes() == b"an archive"
    assert left_in(tmp_path / "originals") == ["fer2013.tar.gz", "fer2013.tar.gz.sha256"]


@pytest.mark.usefixtures("logged_in")
def test_an_official_archive_with_another_checksum_is_not_kept(kaggle: Server, tmp_path: Path) -> None:
    kaggle.answers[FILE] = Answer(b"an archive")
    result = run("fer2013", tmp_path / "originals", "--sha256", "0" * 64)
    assert result.exit_code == 1
    assert "The checksum differs from the known one: fer2013.tar.gz" in result.output
    assert left_in(tmp_path / "originals") == []


@pytest.mark.usefixtures("logged_in")
def test_rules_that_were_not_accepted_are_told(kaggle: Server, tmp_path: Path) -> None:
    kaggle.answers[FILE] = Answer(b"{}", 403)
    result = run("fer2013", tmp_path / "originals")
    assert result.exit_code == 1
    assert "accepted the competition rules" in result.output
    assert left_in(tmp_path / "originals") == []


@pytest.mark.usefixtures("logged_in")
def test_an_official_archive_that_breaks_off_leaves_nothing(kaggle: Server, tmp_path: Path) -> None:
    kaggle.answers[FILE] = Answer(b"an archive", sent=5)
    result = run("fer2013", tmp_path / "originals")
    assert result.exit_code == 1
    assert "Kaggle did not give fer2013.tar.gz" in result.output
    assert left_in(tmp_path / "originals") == []


@pytest.fixture
def folders(kaggle: Server) -> Server:
    kaggle.answers[DATASET] = Answer(json.dumps({"currentVersionNumber": 1}).encode(), kind="application/json")
    kaggle.answers[DATASET_ARCHIVE] = Answer(zip_of({"train/angry/x.jpg": b"one", "test/happy/y.jpg": b"two"}))
    return kaggle


def test_the_image_folders_are_fetched_without_credentials(folders: Server, tmp_path: Path) -> None:
    assert run("folders", tmp_path).exit_code == 0
    assert (tmp_path / "fer2013-folders" / "train" / "angry" / "x.jpg").read_bytes() == b"one"
    assert left_in(tmp_path / "fer2013-folders") == ["test", "train"]
    assert (tmp_path / "fer2013-folders.sha256").read_text() == (
        f"{sha256(b'two')}  fer2013-folders/test/happy/y.jpg\n{sha256(b'one')}  fer2013-folders/train/angry/x.jpg\n"
    )


def test_image_folders_that_are_here_are_verified_and_not_fetched_again(folders: Server, tmp_path: Path) -> None:
    run("folders", tmp_path)
    folders.answers.clear()
    assert "here already" in run("folders", tmp_path).output


def test_an_image_that_was_lost_is_fetched_again(folders: Server, tmp_path: Path) -> None:
    run("folders", tmp_path)
    lost = tmp_path / "fer2013-folders" / "train" / "angry" / "x.jpg"
    lost.unlink()
    assert run("folders", tmp_path).exit_code == 0
    assert lost.read_bytes() == b"one"


def test_image_folders_that_changed_since_the_first_download_are_refused_by_name(
    folders: Server, tmp_path: Path
) -> None:
    run("folders", tmp_path)
    rmtree(tmp_path / "fer2013-folders")
    folders.answers[DATASET_ARCHIVE] = Answer(zip_of({"train/angry/x.jpg": b"one", "test/happy/y.jpg": b"other"}))
    result = run("folders", tmp_path)
    assert result.exit_code == 1
    assert "known one: fer2013-folders/test/happy/y.jpg." in result.output
    assert not (tmp_path / "fer2013-folders").exists()
