"""The id of a request, by which its response, its log lines and a later label belong together."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPResponse

import pytest

from service import problems
from service.schema import MoodResponse
from tests.support.server import UPLOAD, Server, responses

RANDOM = re.compile(r"[0-9a-f]{32}")
TOKEN = {"authorization": "Bearer open sesame"}


def test_every_response_carries_an_id_of_its_own_and_every_problem_names_it(server: Server, photo: bytes) -> None:
    answers = responses(server, photo)
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(RANDOM.fullmatch(request) for request in ids)
    assert len(set(ids)) == len(ids)
    named = [answer for answer in answers if answer.status_code >= 400 or answer.request.url.path == UPLOAD]
    assert {answer.status_code for answer in named} == {200, 400, 404, 405, 415}
    assert all(answer.json()["request"] == answer.headers["x-request-id"] for answer in named)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n", 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ],
    ids=["too long a head", "half a head", "malformed"],
)
def test_a_request_that_the_application_never_sees_has_one_too(
    server: Server, request_bytes: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request_bytes)
        response = HTTPResponse(connection)
        response.begin()
        assert response.status == status
        assert RANDOM.fullmatch(response.headers["x-request-id"])
        assert json.loads(response.read())["request"] == response.headers["x-request-id"]


def test_the_logged_row_has_the_id_of_its_response(server: Server, photo: bytes) -> None:
    answer = server.upload(photo)
    row = json.loads(server.prediction_log.read_text().splitlines()[-1])
    assert row["request"] == answer.json()["request"] == answer.headers["x-request-id"]


def test_a_client_does_not_choose_the_id_unless_a_setting_says_so(server: Server, guarded_server: Server) -> None:
    mine = {"x-request-id": "visit-17.b_2"}
    assert RANDOM.fullmatch(server.client.get("/readyz", headers=mine).headers["x-request-id"])
    assert guarded_server.client.get("/readyz", headers=mine).headers["x-request-id"] == "visit-17.b_2"
    refused = guarded_server.client.post(UPLOAD, headers=mine)
    assert refused.status_code == 401
    assert refused.json()["request"] == "visit-17.b_2"


@pytest.mark.parametrize("mine", [b"", b"x" * 65, b"a b", b"a;b", b"<i>", b"\xe9", b'a"b'])
def test_an_id_of_another_form_is_replaced(guarded_server: Server, mine: bytes) -> None:
    answer = guarded_server.client.get("/readyz", headers={b"x-request-id": mine})
    assert RANDOM.fullmatch(answer.headers["x-request-id"])


def test_the_openapi_document_describes_the_id(server: Server) -> None:
    document = server.client.get("/docs.json").json()
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        responses = {status: response for status, response in operation["responses"].items() if status != "101"}
        assert all("X-Request-Id" in response["headers"] for response in responses.values())
    for model in (MoodResponse, problems.Problem):
        assert "request" in document["components"]["schemas"][model.__name__]["required"]
    assert server.client.get("/docs.json").json() == document
