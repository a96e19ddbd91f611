"""The OpenAPI document as program generators read it."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import UPLOAD, Server


def test_the_form_is_a_plain_object_whose_one_required_field_is_the_image(server: Server) -> None:
    upload = server.client.get("/docs.json").json()["paths"][UPLOAD]["post"]
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form.keys() == {"type", "properties", "required"}
    assert form["required"] == ["image"]
    assert next(iter(upload["requestBody"]["content"])) == "multipart/form-data"  # some generators take the first


@pytest.mark.slow
def test_a_client_made_by_openapi_python_client_gets_the_mood(
    server: Server, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openapi_python_client", reason="needs openapi-python-client")
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(server.client.get("/docs.json").json()))
    subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", document,
            "--output-path", tmp_path / "generated_client", "--meta", "none",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    generated = importlib.import_module("generated_client")
    api, frames = (
        importlib.import_module(f"generated_client.api.default.{name}")
        for name in ("upload_meaa_image", "upload_meaa_frames")
    )
    models, types = (importlib.import_module(f"generated_client.{name}") for name in ("models", "types"))
    file = types.File(payload=io.BytesIO(photo), file_name="photo.jpg", mime_type="image/jpeg")
    body = models.UploadMeaaImageFilesBody(image=file)
    client = generated.Client(base_url=str(server.client.base_url))
    answer = api.sync_detailed(client=client, body=body)
    assert answer.status_code == 200
    assert answer.parsed.mood == "positive"
    assert answer.parsed.request == answer.headers["x-request-id"]
    assert answer.parsed.people is types.UNSET

    file.payload.seek(0)
    everybody = api.sync(client=client, body=body, faces=models.UploadMeaaImageFaces.ALL, max_faces=2)
    assert [person.mood for person in everybody.people] == ["positive"]
    file.payload.seek(0)
    assert api.sync(client=client, body=body, box="180,60,100,120").quality.face_share > 0.1

    images = [types.File(payload=io.BytesIO(data), file_name="f.jpg") for data in (photo, b"no image", photo)]
    session = frames.sync(client=client, body=models.UploadMeaaFramesBody(image=images, times="0,0.25,0.5"))
    assert [frame.time for frame in session.frames] == [0, 0.25, 0.5]
    assert isinstance(session.frames[0], models.AnsweredFrame)
    assert isinstance(session.frames[1], models.FailedFrame)
    assert session.summary.answered == 2
    images = [types.File(payload=io.BytesIO(photo), file_name="f.jpg")]
    body = models.UploadMeaaFramesBody(image=images, session=session.session)
    assert frames.sync(client=client, body=body).summary.answered == 3
