"""Stores know the classification heads of their networks, and hold outputs without any function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lwta.dissection import Layer
from lwta.dissection.store.manifest import MANIFEST, read_manifest, write_manifest
from tests.support.stores import World, same, stop_after

NETWORK = "ColourNetwork"
LAYERS = ["act", "head", "head:identity", Layer("head", "sigmoid")]


def heads(store: Path) -> object:
    return read_manifest(store / NETWORK, "network")[0].get("heads")


def test_one_recording_serves_all_functions(tmp_path: Path) -> None:
    world = World()
    result = world.dissect(tmp_path, LAYERS)
    assert result.layers == ["act", "head", "head:identity", "head:sigmoid"]
    assert heads(tmp_path) == {"act": False, "head": True}
    columns = {path.name for path in (tmp_path / NETWORK / "layers").iterdir()}
    assert columns == {"act", "head"}
    assert same(result, world.dissect(None, LAYERS))
    assert same(result, world.open(tmp_path, layers=LAYERS))
    world.calls()
    assert same(result, world.dissect(tmp_path, LAYERS))
    assert world.calls() == (0, 0)


def test_stores_are_opened_by_key(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path)
    assert world.open(tmp_path).layers == ["act", "head"]
    for layer in ("head", "head:identity", "head:softmax", "head:sigmoid"):
        assert same(world.open(tmp_path, layers=[layer]), world.dissect(None, layer))
    assert same(world.open(tmp_path, layers=Layer("head", "identity")), world.dissect(None, "head:identity"))
    with pytest.raises(ValueError, match="'hed' is not; did you mean 'head'"):
        world.open(tmp_path, layers="hed:softmax")
    with pytest.raises(ValueError, match=r"the transform of 'head' must be one of .*, got 'soft'"):
        world.open(tmp_path, layers="head:soft")
    with pytest.raises(ValueError, match="given once, got 'head' more than once"):
        world.open(tmp_path, layers=["head", "head"])
    with pytest.raises(ValueError, match="competitive layer must be 'auto' or 'identity', got 'act:softmax'"):
        world.open(tmp_path, layers="act:softmax")


@pytest.mark.parametrize("shard_images", [4, 12, 100])
def test_the_size_of_shards_changes_nothing(tmp_path: Path, shard_images: int) -> None:
    world = World()
    assert same(world.dissect(tmp_path, LAYERS, shard_images=shard_images), world.dissect(None, LAYERS))


@pytest.mark.slow
def test_a_pass_that_was_stopped_anywhere_loses_no_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, stops = World(count=9), 0  # three shards, and too few images for the cost of cross-validation
    whole = world.dissect(None, shard_images=4)
    for writes in range(1, 60, 2):
        store = tmp_path / str(writes)
        stop_after(monkeypatch, writes, KeyboardInterrupt())
        try:
            world.dissect(store, shard_images=4)
        except KeyboardInterrupt:
            stops += 1
        monkeypatch.undo()
        assert same(world.dissect(store, shard_images=4), whole)
        assert same(world.open(store), whole)
        assert heads(store) == {"act": False, "head": True}
    assert stops > 20


def test_layers_are_found_out_one_by_one(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path, "act")
    assert heads(tmp_path) == {"act": False}
    world.dissect(tmp_path, "head:identity")
    assert heads(tmp_path) == {"act": False, "head": True}
    assert same(world.open(tmp_path), world.dissect(None))


def without_heads(store: Path) -> None:
    """Make the store one of a version that did not write which layers are heads."""
    manifest = read_manifest(store / NETWORK, "network")[0]
    del manifest["heads"]
    write_manifest(store / NETWORK, manifest)


def test_stores_that_do_not_know_their_heads_take_outputs_as_they_are(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path)
    without_heads(tmp_path)
    world.calls()
    for result in (world.open(tmp_path), world.dissect(tmp_path)):
        assert result.recording.transform("head") == "identity"
        identity = world.dissect(None, "head:identity").similarities("head:identity")
        assert torch.equal(result.similarities("head"), identity)
    assert same(world.open(tmp_path, layers="head:softmax"), world.dissect(None, "head:softmax"))
    assert heads(tmp_path) is None
    (tmp_path / NETWORK / "layers" / "head" / "00001.safetensors").unlink()  # what is recorded again is known
    with pytest.warns(UserWarning, match="will be recorded again"):
        assert same(world.dissect(tmp_path, "head"), world.dissect(None, "head"))
    assert heads(tmp_path) == {"head": True}


@pytest.mark.parametrize("wrong", [["head"], {"head": 1}, {"head": "yes"}, None])
def test_heads_that_are_none_are_damage(tmp_path: Path, wrong: object) -> None:
    world = World()
    world.dissect(tmp_path)
    path = tmp_path / NETWORK / MANIFEST
    manifest = json.loads(path.read_bytes())
    del manifest["checksum"], manifest["written_by"]
    path.write_text(json.dumps({**manifest, "heads": wrong}))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged; remove the folder .* \(what is wrong: heads\)"):
        world.open(tmp_path)
