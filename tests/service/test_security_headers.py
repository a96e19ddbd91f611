"""The security headers of every response."""

from __future__ import annotations

import base64
import hashlib
import re

from tests.support.server import Server, responses


def test_every_response_has_the_security_headers(server: Server, photo: bytes) -> None:
    for response in responses(server, photo):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")


def test_no_response_names_the_software_behind_it(server: Server, photo: bytes) -> None:
    for response in responses(server, photo):
        assert "server" not in response.headers
        assert not [name for name in response.headers if "bentoml" in name or name == "x-powered-by"]


def test_the_policy_admits_the_api_pages_own_script(server: Server) -> None:
    page = server.client.get("/")
    (script,) = re.findall(r"<script>(.+?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy)[0]  # type: ignore[index]
