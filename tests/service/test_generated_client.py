"""The OpenAPI document as program generators read it."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.openapi import openapi_document
from service.settings import Settings
from tests.conftest import ROOT
from tests.support.server import UPLOAD, Server

TYPESCRIPT = ROOT / "tests" / "clients"


def test_the_form_is_a_plain_object_whose_one_required_field_is_the_image(server: Server) -> None:
    upload = server.client.get("/docs.json").json()["paths"][UPLOAD]["post"]
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form.keys() == {"type", "properties", "required"}
    assert form["required"] == ["image"]
    assert next(iter(upload["requestBody"]["content"])) == "multipart/form-data"  # some generators take the first


def generate(document: dict[str, Any], directory: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The parts of a client made by openapi-python-client."""
    pytest.importorskip("openapi_python_client", reason="needs openapi-python-client")
    (directory / "openapi.json").write_text(json.dumps(document))
    subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"), "generate",
            "--path", directory / "openapi.json", "--output-path", directory / "generated_client", "--meta", "none",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(directory)
    parts = ("models", "types", "api.default.upload_meaa_image", "api.default.upload_meaa_frames")
    modules = {part.rpartition(".")[2]: importlib.import_module(f"generated_client.{part}") for part in parts}
    client = importlib.import_module("generated_client")
    return SimpleNamespace(Client=client.Client, AuthenticatedClient=client.AuthenticatedClient, **modules)


def files(generated: SimpleNamespace, *images: bytes) -> list[Any]:
    """Images as the client sends them."""
    return [generated.types.File(payload=io.BytesIO(image), file_name="frame.jpg") for image in images]


@pytest.mark.slow
def test_a_client_made_by_openapi_python_client_gets_the_mood(
    server: Server, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = generate(server.client.get("/docs.json").json(), tmp_path, monkeypatch)
    models, upload, frames = generated.models, generated.upload_meaa_image, generated.upload_meaa_frames
    client = generated.Client(base_url=str(server.client.base_url))

    def one(image: bytes) -> Any:
        return models.UploadMeaaImageFilesBody(image=files(generated, image)[0])

    answer = upload.sync_detailed(client=client, body=one(photo))
    assert answer.status_code == 200
    assert answer.parsed.mood is models.Mood.POSITIVE
    assert answer.parsed.probabilities.positive > 0.9
    assert answer.parsed.request == answer.headers["x-request-id"]
    assert answer.parsed.people is generated.types.UNSET

    everybody = upload.sync(client=client, body=one(photo), faces=models.UploadMeaaImageFaces.ALL, max_faces=2)
    assert [person.mood for person in everybody.people] == [models.Mood.POSITIVE]
    assert upload.sync(client=client, body=one(photo), box="180,60,87,112").quality.reliable

    problem = upload.sync(client=client, body=one(b"no image"))
    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.code) == (400, "invalid_image")
    assert upload.sync(client=client, body=one(photo), box="here").code == "invalid_parameter"

    images = files(generated, photo, b"no image", photo)
    session = frames.sync(client=client, body=models.UploadMeaaFramesBody(image=images, times="0,0.25,0.5"))
    assert [frame.time for frame in session.frames] == [0, 0.25, 0.5]
    assert isinstance(session.frames[0], models.AnsweredFrame)
    assert isinstance(session.frames[1], models.FailedFrame)
    assert session.frames[1].problem.code == "invalid_image"
    assert session.summary.answered == 2
    assert session.summary.moods.positive.share == 1
    later = models.UploadMeaaFramesBody(image=files(generated, photo), session=session.session)
    assert frames.sync(client=client, body=later).summary.answered == 3
    damaged = models.UploadMeaaFramesBody(image=files(generated, photo), session=session.session[:-1])
    assert frames.sync(client=client, body=damaged).code == "invalid_parameter"


@pytest.mark.slow
def test_a_client_made_of_a_guarded_service_sends_its_token(
    guarded_server: Server, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "open sesame"
    generated = generate(openapi_document(Settings(token=(token,))), tmp_path, monkeypatch)
    models, url = generated.models, str(guarded_server.client.base_url)
    body = models.UploadMeaaFramesBody(image=files(generated, photo))
    admitted = generated.AuthenticatedClient(base_url=url, token=token)
    assert generated.upload_meaa_frames.sync(client=admitted, body=body).summary.answered == 1
    refused = generated.upload_meaa_image.sync(
        client=generated.AuthenticatedClient(base_url=url, token="wrong"),
        body=models.UploadMeaaImageFilesBody(image=files(generated, photo)[0]),
    )
    assert (refused.status, refused.code) == (401, "unauthorized")


@pytest.mark.slow
def test_the_messages_of_a_live_session_are_types_of_a_generated_client(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = generate(server.client.get("/docs.json").json(), tmp_path, monkeypatch).models
    assert models.LiveEnd(type_="end").to_dict() == {"type": "end"}
    assert models.LiveResume(type_="resume", session="text").to_dict() == {"type": "resume", "session": "text"}
    assert {"LiveAnswer", "LiveProblem", "LiveSummary"} <= set(models.__all__)


@pytest.mark.slow
def test_a_client_with_types_made_by_openapi_typescript_compiles_and_gets_the_mood(
    server: Server, photo: bytes, tmp_path: Path
) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    folder = tmp_path / "client"
    shutil.copytree(TYPESCRIPT, folder, ignore=shutil.ignore_patterns("node_modules"))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    installed = run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    if installed.returncode:
        pytest.skip(f"needs the packages of tests/clients: {installed.stderr.strip().splitlines()[-1]}")
    (folder / "openapi.json").write_text(json.dumps(server.client.get("/docs.json").json()))
    (folder / "photo.jpg").write_bytes(photo)
    for command in (["openapi-typescript", "openapi.json", "-o", "api.d.ts"], ["tsc"]):
        ran = run("npx", "--no-install", *command)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    answers = json.loads(run("node", "out/client.js", str(server.client.base_url), "photo.jpg").stdout)
    assert answers.pop("positive") > 0.9
    assert answers == {
        "mood": "positive",
        "reasons": [],
        "people": ["positive"],
        "hinted": 1,
        "broken": "invalid_image",
        "status": 400,
        "frames": [1, "invalid_image", 1],
        "answered": 3,
        "share": 1,
        "refused": "invalid_parameter",
    }
