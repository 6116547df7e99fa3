"""What holds for all tests of the store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """No test ends the machine's power; to wait for the disk takes a quarter of a small dissection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
