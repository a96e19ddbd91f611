"""Drift alarms as signed HTTP requests to a webhook: a chat, a pager, a ticket system."""

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
    """`sha256=` and the HMAC-SHA256 of `TIMESTAMP.BODY` in hexadecimal.

    The signature covers the time, so that a receiver can reject a replayed request.
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def send(payload: Mapping[str, Any], params: WebhookParams, secret: str | None) -> None:
    """Post a payload as JSON. Refused connections, timeouts, 429 and 5xx are retried with growing delays.

    Args:
        payload: Content of the alarm.
        params: Receiver, attempts and timeout.
        secret: Key of the signature; None sends the alarm unsigned.

    Raises:
        requests.RequestException: The alarm was not delivered or not accepted.
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
        allowed_methods=None,  # POST as well: receivers recognise a repeated alarm by its time and cause
    )
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        # No redirects: a signed message must reach nobody but its receiver.
        response = session.post(
            params.url, data=body, headers=headers, timeout=params.timeout_seconds, allow_redirects=False
        )
        if response.status_code >= 300:
            raise requests.HTTPError(f"the webhook answered {response.status_code}", response=response)
