"""Stores of version 0.1.0, which did not write by which version they were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwta.dissection.store import manifest as of_store
from lwta.dissection.store.manifest import MANIFEST, read_manifest, versions
from tests.support.stores import World

NETWORK = "ColourNetwork"


def test_going_on_with_such_a_store_says_that_another_version_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read photographs as they lie in the file, and 16 bits clipped: shards of both would not match."""
    world = World()
    world.dissect(tmp_path, "act")
    for path in tmp_path.glob(f"*/{MANIFEST}"):
        content = json.loads(path.read_bytes())
        del content["checksum"], content["written_by"]
        path.write_text(json.dumps(content))
    monkeypatch.setattr(of_store, "__version__", "0.2.0")
    with pytest.warns(UserWarning, match=r"was written by lwta 0\.1\.0, this is 0\.2\.0"):
        world.dissect(tmp_path, "head")
    written = read_manifest(tmp_path / NETWORK, "network")[0]["written_by"]
    assert written == [{"lwta": "0.1.0"}, versions()]
