"""Scores without what would be downloaded."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _no_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded where the extra is installed."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
