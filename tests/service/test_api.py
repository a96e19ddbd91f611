"""The contract of `POST /upload-meaa-image`, and the other endpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import service
from service import openapi, problems
from service.moods import MOODS
from service.observation import COLUMNS
from service.schema import MoodResponse
from service.settings import Settings
from tests.conftest import ROOT
from tests.support.pictures import TO_STORED, Pixels, encode, multi_picture, oriented, sixteen_bit
from tests.support.server import UPLOAD, Server, without_id


def test_a_smiling_astronaut_is_positive(server: Server, photo: bytes) -> None:
    assert server.upload(photo).json()["mood"] == "positive"


def test_the_response_has_the_members_of_the_contract(server: Server, photo: bytes) -> None:
    answer = server.upload(photo).json()
    assert list(answer) == ["mood", "probabilities", "face", "faces", "quality", "model", "request"]
    assert list(answer["probabilities"]) == list(MOODS)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["mood"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert list(answer["face"]) == ["x", "y", "width", "height", "confidence"]
    assert answer["faces"] == 1
    metadata = json.loads((ROOT / "bundle" / "classifier" / "metadata.json").read_text())
    assert answer["model"] == {name: metadata[name] for name in ("name", "version", "digest")}


def test_the_face_box_lies_on_the_face(server: Server, photo: bytes) -> None:
    face = server.upload(photo).json()["face"]
    eyes_and_mouth = [(205, 105), (247, 110), (220, 150)]
    for x, y in eyes_and_mouth:
        assert face["x"] < x < face["x"] + face["width"]
        assert face["y"] < y < face["y"] + face["height"]
    assert face["width"] < 120
    assert face["height"] < 140


@pytest.mark.parametrize("orientation", TO_STORED)
def test_coordinates_are_those_of_the_upright_image(server: Server, astronaut: Pixels, orientation: int) -> None:
    wide = astronaut[:400]  # not square, so that a mix-up of the axes shows
    upright = server.upload(oriented(wide, 1)).json()
    turned = server.upload(oriented(wide, orientation)).json()
    assert turned["faces"] == upright["faces"] == 1
    for side in ("x", "y", "width", "height"):
        assert turned["face"][side] == pytest.approx(upright["face"][side], abs=3)
    assert turned["probabilities"] == pytest.approx(upright["probabilities"], abs=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: encode(p, "WEBP", lossless=True),
        lambda p: encode(p, "PNG", "RGBA"),
        lambda p: sixteen_bit(p, 3),
        lambda p: sixteen_bit(p, 4),
    ],
    ids=["WebP", "RGBA PNG", "16-bit PNG", "16-bit RGBA PNG"],
)
def test_lossless_formats_get_the_same_response(server: Server, astronaut: Pixels, make) -> None:  # type: ignore[no-untyped-def]
    assert without_id(server.upload(make(astronaut))) == without_id(server.upload(encode(astronaut, "PNG")))


@pytest.mark.parametrize(
    "make",
    [
        encode,
        lambda p: encode(p, progressive=True),
        lambda p: encode(p, mode="CMYK"),
        lambda p: encode(p, "WEBP", quality=95),
        lambda p: encode(p, "PNG", "L"),
        lambda p: sixteen_bit(p, 1),
        multi_picture,
    ],
    ids=["JPEG", "progressive JPEG", "CMYK JPEG", "WebP", "grey PNG", "16-bit grey PNG", "multi-picture JPEG"],
)
def test_lossy_formats_get_nearly_the_same_probabilities(server: Server, astronaut: Pixels, make) -> None:  # type: ignore[no-untyped-def]
    exact = server.upload(encode(astronaut, "PNG")).json()["probabilities"]
    assert server.upload(make(astronaut)).json()["probabilities"] == pytest.approx(exact, abs=0.1)


def test_the_largest_of_several_faces_counts(server: Server, astronaut: Pixels) -> None:
    head = astronaut[20:220, 120:320]
    scene = np.full((420, 700, 3), 200, np.uint8)
    scene[20:120, 20:120] = head[::2, ::2]
    scene[10:410, 250:650] = head.repeat(2, axis=0).repeat(2, axis=1)
    answer = server.upload(encode(scene)).json()
    assert answer["faces"] == 2
    assert answer["face"]["x"] >= 250
    assert answer["face"]["width"] > 140


def test_all_ways_of_sending_an_image_get_the_same_response(server: Server, photo: bytes) -> None:
    answers = [
        server.upload(photo),
        server.upload(photo, field="file"),
        server.client.post(UPLOAD, content=photo, headers={"content-type": "image/jpeg"}),
        server.client.post(UPLOAD, content=iter([photo])),
    ]
    assert all(without_id(answer) == without_id(answers[0]) for answer in answers)


def test_concurrent_requests_get_their_own_responses(server: Server, astronaut: Pixels) -> None:
    pictures = [encode(np.roll(astronaut, 20 * step, axis=1)) for step in range(6)]
    alone = [without_id(server.upload(picture)) for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda picture: without_id(server.upload(picture)), pictures)) == alone
    assert len({answer["face"]["x"] for answer in alone}) == 6


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics", "/", "/docs.json"])
def test_the_other_endpoints_answer(server: Server, path: str) -> None:
    assert server.client.get(path).status_code == 200


def test_the_api_page_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/").text
    assert "https:" not in page
    assert "http:" not in page
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"./static_content/{asset}" in page
        assert server.client.get(f"/static_content/{asset}").status_code == 200


def test_the_openapi_document_has_the_version_of_the_project(server: Server) -> None:
    """The API page shows this version."""
    assert server.client.get("/docs.json").json()["info"]["version"] == service.__version__


def test_the_openapi_document_describes_the_upload(server: Server) -> None:
    upload = server.client.get("/docs.json").json()["paths"][UPLOAD]["post"]
    assert {"multipart/form-data", "image/jpeg", "image/png", "image/webp"} == set(upload["requestBody"]["content"])
    assert set(upload["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]) == {"image", "file"}
    assert {"200", "400", "401", "408", "413", "415", "422", "431", "500", "503"} == set(upload["responses"])
    for status, response in upload["responses"].items():
        media_type = "application/json" if status == "200" else problems.MEDIA_TYPE
        assert response["content"][media_type]["schema"]["$ref"].startswith("#/components/schemas/")
    assert set(upload["responses"]["400"]["content"][problems.MEDIA_TYPE]["examples"]) == {
        "bad_request",
        "invalid_image",
        "invalid_parameter",
        "missing_image",
    }


def test_every_operation_names_the_refusals_that_any_request_may_get(server: Server) -> None:
    for operations in server.client.get("/docs.json").json()["paths"].values():
        for operation in operations.values():
            assert {"400", "408", "431"} <= set(operation["responses"])


def test_the_openapi_document_defines_all_that_it_refers_to() -> None:
    document = openapi.openapi_document(Settings())
    text = json.dumps(document)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    answers = {"MoodResponse", "Person", "Mood", "Probabilities", "FaceBox", "Quality", "Reason", "Model", "Problem"}
    frames = {"FramesResponse", "AnsweredFrame", "FailedFrame", "FrameEstimate"}
    summary = {"Summary", "MoodShare", "Episode", "Interval"}
    live = {"LiveReply", "LiveAnswer", "LiveProblem", "LiveSummary", "LiveEnd", "LiveResume"}
    assert referred == answers | frames | summary | live
    assert referred <= set(document["components"]["schemas"])


def test_a_prediction_is_logged_without_a_trace_of_the_image(server: Server, photo: bytes) -> None:
    answer = MoodResponse.model_validate(server.upload(photo).json())
    line = json.loads(server.prediction_log.read_text().splitlines()[-1])
    assert tuple(line) == COLUMNS
    assert (line["outcome"], line["mood"]) == ("answered", answer.mood)
    assert [line[f"probability_{mood}"] for mood in MOODS] == pytest.approx(
        [answer.probabilities[mood] for mood in MOODS], abs=1e-5
    )
    assert line["face_share"] == pytest.approx(max(answer.face.width, answer.face.height) / 512, abs=1e-5)
    assert (line["model_version"], line["model_digest"]) == (answer.model.version, answer.model.digest)


def test_a_request_without_a_face_is_logged_as_such(server: Server) -> None:
    server.upload(encode(np.zeros((100, 120, 3), np.uint8)))
    line = json.loads(server.prediction_log.read_text().splitlines()[-1])
    assert (line["outcome"], line["mood"], line["frame_width"]) == ("no_face", None, 120)


def test_the_service_imports_nothing_of_training_and_monitoring() -> None:
    heavy = ["tensorflow", "keras", "mlflow", "dvc", "evidently", "sklearn", "pandas", "matplotlib", "pipelines"]
    program = f"import sys, service.service; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
