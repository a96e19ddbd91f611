"""Fuzzing for seconds, as `make soak` does for minutes: damaged images, and requests from the OpenAPI document."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.robustness.fuzz import decode_all, mutants, seeds
from benchmarks.robustness.schemathesis_run import run
from service import images
from service.errors import UnsupportedTypeError
from tests.support.server import Server


def test_damaged_images_raise_nothing_but_the_typed_errors() -> None:
    result = decode_all(1500, seed=7)
    assert not result.untyped
    assert result.over_two_seconds == 0
    assert {"decoded", "invalid_image", "unsupported_type"} <= set(result.outcomes)


def test_the_mutants_are_the_same_for_the_same_seed() -> None:
    assert list(mutants(50, seed=1)) == list(mutants(50, seed=1)) != list(mutants(50, seed=2))


def test_all_seeds_but_two_are_read() -> None:
    refused = [seed for seed in seeds() if seed.startswith((b"GIF8", b"II*\0"))]
    assert len(refused) == 2
    for seed in set(seeds()) - set(refused):
        assert images.decode(seed).ndim == 3
    for seed in refused:
        with pytest.raises(UnsupportedTypeError):
            images.decode(seed)


@pytest.mark.slow
def test_responses_conform_to_the_openapi_document(server: Server, tmp_path: Path) -> None:
    result = run(str(server.client.base_url), tmp_path, examples=5)
    assert result.returncode == 0, result.stdout
