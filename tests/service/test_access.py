"""Access: which requests need a token, which addresses exist, and which web pages may call."""

from __future__ import annotations

import pytest

from service.access import check_token
from service.errors import UnauthorizedError
from tests.support.server import UPLOAD, Server

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
def test_requests_without_a_valid_token_are_refused(
    guarded_server: Server, photo: bytes, header: str | bytes | None
) -> None:
    headers = {} if header is None else {b"authorization": header.encode() if isinstance(header, str) else header}
    response = guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthorized"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer open sesame", "bearer open simsim"])
def test_any_of_the_tokens_is_accepted(guarded_server: Server, photo: bytes, header: str) -> None:
    headers = {"authorization": header}
    assert guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers).status_code == 200


def test_every_token_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(sent: bytes, known: bytes) -> bool:
        compared.append(known)
        return sent == known

    monkeypatch.setattr("service.access.hmac.compare_digest", compare)  # the comparison in constant time
    for header in ("Bearer a", "Bearer c"):
        check_token(header, ("a", "b", "c"))
    with pytest.raises(UnauthorizedError):
        check_token("Bearer d", ("a", "b", "c"))
    assert compared == [b"a", b"b", b"c"] * 3


def test_health_needs_no_token(guarded_server: Server) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert guarded_server.client.get(path).status_code == 200


def test_the_metrics_may_require_a_token(guarded_server: Server) -> None:
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
def test_addresses_outside_the_api_do_not_exist(server: Server, path: str) -> None:
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
    assert answer.headers["access-control-expose-headers"] == "Retry-After, X-Request-Id"
    refused = guarded_server.client.post(UPLOAD, files={"image": photo}, headers=PAGE)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE["origin"]  # so that the page can read the reason
    other = guarded_server.client.options(UPLOAD, headers={**asks, "origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in other.headers


def test_there_is_no_websocket(server: Server) -> None:
    head = (
        f"GET {UPLOAD} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert server.exchange(head.encode())[0] in (403, 405)
