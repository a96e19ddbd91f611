"""An alarm as a signed HTTP request, for whatever the maintainer reads: a chat, a pager, a ticket system."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from monitoring.params import WebhookParams

SIGNATURE_HEADER: Final = "X-MEAA-Signature"
TIMESTAMP_HEADER: Final = "X-MEAA-Timestamp"


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256, in hexadecimal, of `TIMESTAMP.BODY`.

    The time is signed along, so that a receiver can turn away an old request that is sent again.
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def send(payload: Mapping[str, Any], params: WebhookParams, secret: str | None) -> None:
    """Post a payload as JSON; a refused connection, a timeout, 429 and 5xx are tried again, later each time.

    Args:
        payload: what is to be said.
        params: where to, and how often.
        secret: to sign with; None sends it unsigned.

    Raises:
        requests.RequestException: it did not arrive, or was not accepted.
    """
    body = json.dumps(payload, sort_keys=True).encode()
    timestamp = str(int(time.time()))
    headers = {"Content-Type": "application/json", "User-Agent": "meaa-monitoring", TIMESTAMP_HEADER: timestamp}
    if secret:
        headers[SIGNATURE_HEADER] = sign(secret, timestamp, body)
    retry = Retry(
        total=params.attempts - 1,
        backoff_factor=params.backoff_seconds,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,  # POST too: receivers know an alarm by its time and cause
    )
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        # No redirects: a signed message is for its receiver, and for no other.
        response = session.post(
            params.url, data=body, headers=headers, timeout=params.timeout_seconds, allow_redirects=False
        )
        if response.status_code >= 300:
            raise requests.HTTPError(f"the webhook answered {response.status_code}", response=response)
