"""Descriptions of classifiers that need no graph."""

from __future__ import annotations

from service.classifier import ClassifierMetadata, InputSpec
from service.moods import MOODS


def described(version: str = "3") -> ClassifierMetadata:
    """A classifier's metadata; its digest is that of no graph."""
    spec = InputSpec(size=48, margin=0.0, scale=2 / 255, offset=-1.0)
    return ClassifierMetadata(name="toy", version=version, digest=version[0] * 64, moods=MOODS, input=spec)
