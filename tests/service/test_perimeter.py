"""What is seen from outside: who may call, which addresses there are, and what every response says of itself."""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
import pytest

from service.errors import UnauthorizedError
from service.perimeter import check_token
from tests.service.conftest import UPLOAD, Server

TOKEN = {"authorization": "Bearer open sesame"}
PAGE = {"origin": "https://clinic.example"}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer open",
        "Bearer open sesame!",
        "Basic open sesame",
        "open sesame",
        b"Bearer \xff",
        "Bearer ,",
    ],
)
def test_without_the_token_nobody_gets_in(guarded_server: Server, photo: bytes, header: str | bytes | None) -> None:
    headers = {} if header is None else {b"authorization": header.encode() if isinstance(header, str) else header}
    response = guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthorized"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer open sesame", "bearer open simsim"])
def test_with_any_of_the_tokens_one_gets_in(guarded_server: Server, photo: bytes, header: str) -> None:
    headers = {"authorization": header}
    assert guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers).status_code == 200


def test_every_token_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(sent: bytes, known: bytes) -> bool:
        compared.append(known)
        return sent == known

    monkeypatch.setattr("service.perimeter.hmac.compare_digest", compare)  # the comparison in constant time
    for header in ("Bearer a", "Bearer c"):
        check_token(header, ("a", "b", "c"))
    with pytest.raises(UnauthorizedError):
        check_token("Bearer d", ("a", "b", "c"))
    assert compared == [b"a", b"b", b"c"] * 3


def test_health_needs_no_token(guarded_server: Server) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert guarded_server.client.get(path).status_code == 200


def test_the_figures_may_be_for_those_with_a_token_only(guarded_server: Server) -> None:
    assert guarded_server.client.get("/metrics").status_code == 401
    assert "meaa_requests_total" in guarded_server.client.get("/metrics", headers=TOKEN).text


@pytest.mark.parametrize("path", ["/", "/docs.json", "/static_content/swagger-ui.css"])
def test_the_api_page_may_be_switched_off(guarded_server: Server, path: str) -> None:
    response = guarded_server.client.get(path, headers=TOKEN)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize(
    "path", ["/schema.json", "/static_content/index.css", "/static_content/swagger-ui.css/", "/metrics/", "/%2e/"]
)
def test_addresses_that_are_not_ours_are_not_there(server: Server, path: str) -> None:
    assert server.client.get(path, follow_redirects=False).status_code == 404


def test_other_web_pages_get_no_answer_that_they_may_read(server: Server, photo: bytes) -> None:
    response = server.client.post(UPLOAD, files={"image": photo}, headers=PAGE)
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = server.client.options(UPLOAD, headers={**PAGE, "access-control-request-method": "POST"})
    assert preflight.status_code == 405


def test_a_configured_web_page_may_call(guarded_server: Server, photo: bytes) -> None:
    asks = {**PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = guarded_server.client.options(UPLOAD, headers=asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE["origin"]
    answer = guarded_server.client.post(UPLOAD, files={"image": photo}, headers={**TOKEN, **PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE["origin"]
    refused = guarded_server.client.post(UPLOAD, files={"image": photo}, headers=PAGE)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE["origin"]  # or the page could not read why
    other = guarded_server.client.options(UPLOAD, headers={**asks, "origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in other.headers


def responses(server: Server, photo: bytes) -> list[httpx.Response]:
    """One of every kind."""
    client = server.client
    return [
        server.upload(photo),
        server.upload(b"no image"),
        client.post(UPLOAD, json={}),
        client.get(UPLOAD),
        client.get("/nowhere"),
        *(client.get(path) for path in ("/", "/docs.json", "/static_content/swagger-ui.css", "/metrics", "/readyz")),
    ]


def test_every_response_has_the_security_headers(server: Server, photo: bytes) -> None:
    for response in responses(server, photo):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")


def test_no_response_tells_what_it_was_made_with(server: Server, photo: bytes) -> None:
    for response in responses(server, photo):
        assert "server" not in response.headers
        assert not [name for name in response.headers if "bentoml" in name or name == "x-powered-by"]


def test_the_api_pages_own_script_is_the_one_that_may_run(server: Server) -> None:
    page = server.client.get("/")
    (script,) = re.findall(r"<script>(.+?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy)[0]  # type: ignore[index]


def test_there_is_no_websocket(server: Server) -> None:
    head = (
        f"GET {UPLOAD} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert server.exchange(head.encode())[0] in (403, 405)
