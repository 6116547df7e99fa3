"""The store: what is in it is not recorded again, what is damaged is, and what does not belong to it is refused."""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lwta.dissection.store import manifest as manifests
from tests.support.stores import COUNT, World, other_clip, same, stop_after
from tests.support.worlds import ColourNetwork, images, to_tensor

NETWORK = "ColourNetwork"


def files_of(store: Path, pattern: str) -> list[Path]:
    return sorted(path for path in store.glob(pattern) if path.is_file())


@pytest.mark.parametrize(("shard", "similarity"), [(1, "cos"), (7, "soft_wpmi"), (64, "auto"), (COUNT, "soft_wpmi")])
def test_any_shards_give_what_memory_gives(tmp_path: Path, shard: int, similarity: str) -> None:
    world = World(ColourNetwork("argmax"))
    stored = world.dissect(tmp_path, batch_size=1, shard_images=shard, similarity=similarity)
    assert len(files_of(tmp_path, f"{NETWORK}/layers/act/*")) == -(-COUNT // shard)
    assert same(stored, world.dissect(batch_size=1, similarity=similarity))
    assert same(stored, world.open(tmp_path, similarity=similarity))


@pytest.mark.parametrize("shard", [1, 12, 100])
def test_sampled_winners(tmp_path: Path, shard: int) -> None:
    world = World()
    assert same(world.dissect(tmp_path, shard_images=shard, seed=4), world.dissect(seed=4))


def test_what_is_stored_is_not_recorded_again(tmp_path: Path) -> None:
    world = World()
    first = world.dissect(tmp_path)
    assert world.calls() == (COUNT, COUNT)
    again = world.dissect(tmp_path)
    other = world.dissect(tmp_path, similarity="cos", concepts=["a red thing", "a blue thing"])
    part = world.dissect(tmp_path, "head", shard_images=1)
    assert world.calls() == (0, 0)
    assert same(first, again)
    assert same(other, world.dissect(similarity="cos", concepts=["a red thing", "a blue thing"]))
    assert same(part, world.dissect(layers="head"))


def test_no_image_is_read_when_all_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, image in images(9):
        (tmp_path / "probe" / key).parent.mkdir(exist_ok=True, parents=True)
        image.save(tmp_path / "probe" / key)
    world = World(count=9)
    world.probe = tmp_path / "probe"
    first = world.dissect(tmp_path / "store")
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image is read"))
    assert same(first, world.dissect(tmp_path / "store"))


def test_a_further_layer_needs_the_network_alone(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path, "act")
    times = {path: path.stat().st_mtime_ns for path in files_of(tmp_path, "*/layers/act/*")}
    world.calls()
    both = world.dissect(tmp_path, ["head", "act"])
    assert world.calls() == (COUNT, 0)
    assert times == {path: path.stat().st_mtime_ns for path in files_of(tmp_path, "*/layers/act/*")}
    assert same(both, world.dissect(layers=["head", "act"]))
    assert world.open(tmp_path).layers == ["act", "head"]


@pytest.mark.parametrize(("batch_size", "shard"), [(4, 8), (4, 20), (7, 14), (1, 1), (30, 30)])
def test_a_second_network_shares_the_embeddings(tmp_path: Path, batch_size: int, shard: int) -> None:
    world, second = World(), World(ColourNetwork("argmax"))
    broken = {1, 8, 9, 10, 11, 29}  # among them all of a batch
    for one in (world, second):
        one.probe = tmp_path / "probe"
    for key, image in images(COUNT):
        (tmp_path / "probe" / key).parent.mkdir(exist_ok=True, parents=True)
        image.save(tmp_path / "probe" / key)
        if sorted(key for key, _ in images(COUNT)).index(key) in broken:
            (tmp_path / "probe" / key).write_bytes(b"no image")
    store = tmp_path / "store"
    with pytest.warns(UserWarning, match=r"6 of 30 images of .* skipped"):
        world.dissect(store)
    with pytest.warns(UserWarning, match=r"6 of 30 images of .* skipped"):
        stored = second.dissect(store, name="second", batch_size=batch_size, shard_images=shard)
    assert second.calls() == (COUNT - 6, 0)
    with pytest.warns(UserWarning, match=r"6 of 30 images of .* skipped"):
        assert same(stored, second.dissect(batch_size=batch_size))
    (manifest,) = files_of(store, "images-*/manifest.json")
    assert len(json.loads(manifest.read_bytes())["skipped"]) == 6
    with pytest.raises(ValueError, match="name must be one of 'ColourNetwork', 'second'"):
        world.open(store)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]


DAMAGED = {
    f"{NETWORK}/layers/act/00001.safetensors": (8, 0),
    "images-*/features/00003.safetensors": (0, 6),
    "images-*/keys/00000.json": (0, 8),
}


@pytest.mark.parametrize("pattern", DAMAGED)
@pytest.mark.parametrize("damage", [truncated, flipped, None])
def test_damage_is_noticed_named_and_mended(
    tmp_path: Path, pattern: str, damage: Callable[[bytes], bytes] | None
) -> None:
    world = World()
    first = world.dissect(tmp_path)
    (path,) = files_of(tmp_path, pattern)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    if "layers" in pattern:  # labels by moments take none of these files; what reads them says so
        opened = world.open(tmp_path, layers="act")
        assert repr(opened.labels("act")) == repr(first.labels("act"))
        with pytest.raises(ValueError, match=rf"{path.name} .*; dissect the network again"):
            opened.top_images("act", 0)
    with pytest.raises(ValueError, match=rf"{path.name} .*; dissect the network again"):
        world.open(tmp_path, similarity="soft_wpmi")
    world.calls()
    with pytest.warns(UserWarning, match=rf"store: .*{path.name} .* recorded again"):
        mended = world.dissect(tmp_path)
    assert world.calls() == DAMAGED[pattern]
    assert same(first, mended)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.dissect(tmp_path)


def test_a_damaged_line_of_the_table_costs_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    stop_after(monkeypatch, 20, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        world.dissect(tmp_path)
    monkeypatch.undo()
    line = files_of(tmp_path, f"{NETWORK}/shards/*.json")[0]
    line.write_bytes(truncated(line.read_bytes()))
    world.calls()
    with pytest.warns(UserWarning, match=r"00000\.json is damaged; its shard will be recorded again"):
        result = world.dissect(tmp_path)
    assert world.calls()[0] == COUNT
    assert same(result, world.dissect())


@pytest.mark.parametrize("writes", [0, 3, 8, 13, 20, 30, 42, 55])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    world = World()
    stop_after(monkeypatch, writes, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match=r"no space left for .*; \d+ of its \d+ shards .* goes on from there") as raised:
        world.dissect(tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    world.calls()
    result = world.dissect(tmp_path)
    done = int(str(raised.value).split("; ")[1].split()[0])
    assert world.calls()[0] == COUNT - min(done * 8, COUNT)
    assert same(result, world.dissect())


def other_weights(world: World) -> dict[str, Any]:
    with torch.no_grad():
        world.model.head.bias[0] += 1
    return {}


def other_buffer(world: World) -> dict[str, Any]:
    world.model.register_buffer("extra", torch.zeros(2))
    return {}


def other_layer(world: World) -> dict[str, Any]:
    world.model.act = ColourNetwork("argmax").act
    return {}


def other_probe(world: World) -> dict[str, Any]:
    world.probe = images(COUNT)[::-1]
    return {}


def brighter(image: Image.Image) -> torch.Tensor:
    return to_tensor(image) + 1


CHANGES = [
    pytest.param("weights", other_weights, id="weights"),
    pytest.param("weights", other_buffer, id="buffer"),
    pytest.param("architecture", other_layer, id="architecture"),
    pytest.param("transform", lambda world: {"transform": brighter}, id="transform"),
    pytest.param("probe", other_probe, id="probe"),
    pytest.param("clip", lambda world: {"clip": other_clip()}, id="clip"),
    pytest.param("pool", lambda world: {"pool": "max"}, id="pool"),
    pytest.param("batch_size", lambda world: {"batch_size": 5}, id="batch_size"),
    pytest.param("seed", lambda world: {"seed": 1}, id="seed"),
]


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_a_stale_store_is_refused(tmp_path: Path, part: str, change: Callable[[World], dict[str, Any]]) -> None:
    world = World()
    world.dissect(tmp_path)
    before = {path: path.read_bytes() for path in files_of(tmp_path, "**/*")}
    changes = change(world)
    world.calls()
    with pytest.raises(ValueError, match=rf"recorded with another {part} \(stored: .*; now: .*\)") as raised:
        world.dissect(tmp_path, **changes)
    assert "another" not in str(raised.value).split("(stored", 1)[1].split("; give")[0]  # nothing else is blamed
    assert world.calls() == (0, 0)
    assert before == {path: path.read_bytes() for path in files_of(tmp_path, "**/*")}
    assert same(world.dissect(tmp_path, name="other", **changes), world.dissect(**changes))


def test_another_version_and_a_damaged_manifest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(manifests, "SCHEMA", 99)
    world.dissect(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has version 99 of the format, this library reads 2; remove the folder"):
        world.dissect(tmp_path)
    (manifest,) = files_of(tmp_path, f"{NETWORK}/manifest.json")
    manifest.write_bytes(truncated(manifest.read_bytes()))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged; remove the folder"):
        world.dissect(tmp_path)


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    world = World()
    for name in ("../x", "", "images-1", ".hidden", "a/b"):
        if name:
            with pytest.raises(ValueError, match="name must be letters"):
                world.dissect(tmp_path, name=name)
    with pytest.raises(ValueError, match="shard_images must be at least 1, got 0"):
        world.dissect(tmp_path, shard_images=0)
    world.probe = iter(images(COUNT))
    with pytest.raises(ValueError, match="store needs a probe whose keys are known"):
        world.dissect(tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_that_are_all_broken(tmp_path: Path) -> None:
    world = World()
    world.probe = tmp_path / "probe"
    (tmp_path / "probe" / "red").mkdir(parents=True)
    (tmp_path / "probe" / "red" / "000.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"probe must hold a readable image; .* 'red/000\.png' could not be read"):
            world.dissect(tmp_path / "store")


class Unreadable(Image.Image):
    """What a dataset gives for a file that was damaged after it was opened."""

    def convert(self, *_: Any, **__: Any) -> Image.Image:
        raise OSError("image file is truncated")


def test_an_image_that_is_readable_at_one_time_only(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path)
    good = world.probe
    world.probe = [(key, Unreadable() if i == 12 else image) for i, (key, image) in enumerate(good)]
    with pytest.raises(ValueError, match=r"some images of shards \[1\] could be read when .*; remove the folder"):
        world.dissect(tmp_path, name="second")
    world.probe = good
    assert same(world.dissect(tmp_path, name="second"), world.dissect())


def test_an_image_that_was_replaced_by_another(tmp_path: Path) -> None:
    world = World(count=9)
    world.probe, store = tmp_path / "probe", tmp_path / "store"
    for key, image in images(9):
        (world.probe / key).parent.mkdir(exist_ok=True, parents=True)
        image.save(world.probe / key)
    world.dissect(store)
    path = next(world.probe.rglob("*.png"))
    Image.effect_noise(Image.open(path).size, 99).convert("RGB").save(path)
    with pytest.raises(ValueError, match=r"recorded with another probe \(stored: 9 images, .*; now: 9 images, "):
        world.dissect(store)
    assert same(world.dissect(store, name="second"), world.dissect())


def test_images_replaced_by_others_of_the_same_size_are_noticed(tmp_path: Path) -> None:
    world = World(ColourNetwork("argmax"), count=9)
    world.probe, store = tmp_path / "probe", tmp_path / "store"
    for key, image in images(9):
        (world.probe / key).parent.mkdir(exist_ok=True, parents=True)
        image.save(world.probe / key.replace("png", "bmp"))
    renamed = {key: key.replace("png", "bmp") for key, _ in images(9)}
    world.clip._inner._image_rows = {renamed[key]: row for key, row in world.clip._inner._image_rows.items()}
    first = world.dissect(store)
    path = next(world.probe.rglob("red/*.bmp"))
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    with pytest.raises(ValueError, match=r"recorded with another image content \(stored: .*; now: .*\)"):
        world.dissect(store)
    other = world.dissect(store, name="second")
    assert same(other, world.dissect())
    assert sorted(one.name[:7] for one in store.iterdir()) == ["ColourN", "images-", "images-", "second"]
    for name, expected in (("ColourNetwork", first), ("second", other)):
        opened = world.open(store, name=name)
        assert same(opened, expected)


def test_layers_of_any_name(tmp_path: Path) -> None:
    world = World(nn.Sequential(ColourNetwork("argmax")))
    world.model.add_module("keys/%: ", nn.Identity())
    layers = ["0.act", "keys/%: "]
    assert same(world.dissect(tmp_path, layers), world.dissect(layers=layers))
