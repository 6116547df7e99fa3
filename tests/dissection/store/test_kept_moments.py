"""What is computed from a recording is kept beside it: used, checked, computed again, and resumed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from lwta.dissection import Dissection
from lwta.dissection.moments import measuring
from lwta.dissection.moments.measuring import moments_of, sample_of
from lwta.dissection.recording.recording import Recording, Shard
from lwta.dissection.store.contents import ImageTable, StoredActivations
from lwta.dissection.store.folder import ShardFolder
from lwta.dissection.store.kept_files import KeptFiles
from lwta.dissection.store.opening import open_recording
from lwta.dissection.store.packing import pack_activations
from tests.support.stores import CountingClip, World, other_clip, same
from tests.support.worlds import ColourNetwork, activations_of, embedded, in_batches

NETWORK = "ColourNetwork"
OTHERS = ["a red thing", "a grey thing", "a blue thing"]
BY_MOMENTS = ["correlation", "specific", "linear", "cos"]
KEPT = {
    "images/moments-8",
    *(f"{layer}/{name}" for layer in ("act", "head") for name in ("moments-8", "sample", "tally")),
}
OF_ACT = sorted(name for name in KEPT if not name.startswith("head"))


def kept(store: Path) -> dict[str, Path]:
    """Files of what was computed, by layer and name."""
    of_layers = {f"{path.parent.name}/{path.stem}": path for path in store.glob(f"{NETWORK}/moments/*/*.safetensors")}
    of_images = {f"images/{path.stem}": path for path in store.glob("images-*/moments/*.safetensors")}
    return {**of_images, **of_layers}


def times(store: Path) -> dict[str, int]:
    return {name: path.stat().st_mtime_ns for name, path in kept(store).items()}


def tensors(recording: Recording, layer: str) -> list[Tensor]:
    """Everything that was measured of a layer."""
    moments, sample = moments_of(recording, layer), sample_of(recording, layer)
    return [*vars(moments).values(), sample.features, sample.values, recording.active(layer)]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def equal_by_name(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and equal(list(a.values()), [b[name] for name in a])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dissection]:
    """A store whose only layer is one of competition, and what was found when it was filled."""
    store = tmp_path_factory.mktemp("recorded") / "store"
    return store, World().dissect(store, "act")


@pytest.fixture
def copied(recorded: tuple[Path, Dissection], tmp_path: Path) -> Path:
    """A copy of that store."""
    return Path(shutil.copytree(recorded[0], tmp_path / "store"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function after whose call neither activations nor embeddings of a store may be read."""

    def forbid() -> None:
        monkeypatch.setattr(StoredActivations, "read", lambda *_: pytest.fail("activations are read"))
        monkeypatch.setattr(ImageTable, "features", lambda *_: pytest.fail("embeddings are read"))

    return forbid


@pytest.mark.parametrize("similarity", BY_MOMENTS)
def test_a_second_labelling_reads_no_shard(tmp_path: Path, no_reading: Any, similarity: str) -> None:
    world = World()
    first = world.dissect(tmp_path)
    assert set(kept(tmp_path)) == KEPT
    expected = World().dissect(None, concepts=OTHERS, similarity=similarity)
    before = times(tmp_path)
    no_reading()
    world.calls()
    again = world.open(tmp_path, OTHERS, similarity=similarity)
    for result in (first.relabel(OTHERS, similarity), again, again.relabel(OTHERS, similarity)):
        for layer in result.layers:
            assert torch.equal(result.similarities(layer), expected.similarities(layer))
            assert repr(result.labels(layer)) == repr(expected.labels(layer))
            assert result.dead(layer) == expected.dead(layer)
        assert str(result) == str(expected)
        assert repr(result.recording.win_shares("act")) == repr(expected.recording.win_shares("act"))
    assert world.calls() == (0, 0)
    assert times(tmp_path) == before


def test_a_network_recorded_later_uses_the_moments_of_the_embeddings(tmp_path: Path) -> None:
    World().dissect(tmp_path)
    before = times(tmp_path)["images/moments-8"]
    second = World(ColourNetwork("argmax"))
    assert same(second.dissect(tmp_path, name="second"), second.dissect())
    assert times(tmp_path)["images/moments-8"] == before


def other_shard(store: Path) -> None:
    """Record other activations of one layer in one shard."""
    folder = ShardFolder(store / NETWORK, "network")
    entry, activations = folder.entries[1], StoredActivations(folder).read(1, "act")
    assert activations is not None
    changed = replace(activations, values=2 * activations.values)
    (store / NETWORK / "layers" / "act" / "00001.safetensors").unlink()  # whole files stay
    folder.write(1, entry.keys, {"layers/act": pack_activations(changed)})


def test_moments_are_stale_when_a_shard_is_another(copied: Path) -> None:
    world = World()
    before, old = times(copied), tensors(recording_of(world, copied, "act"), "act")
    other_shard(copied)
    recording = recording_of(world, copied, "act")
    new = tensors(recording, "act")
    changed = {name for name, time in times(copied).items() if time != before[name]}
    assert changed == {"act/moments-8", "act/sample", "act/tally"}
    assert not equal(new, old)
    values = torch.cat([shard.activations.dense() for shard in recording.shards("act")])
    torch.testing.assert_close(sum(moments_of(recording, "act").sums), values.double().sum(0))


def test_moments_are_stale_when_the_embeddings_are_others(tmp_path: Path) -> None:
    """In the same folder, as if an encoder of the same fingerprint had changed its mind."""
    world = World()
    world.dissect(tmp_path)
    before, old = times(tmp_path), tensors(world.open(tmp_path).recording, "act")
    other = CountingClip([key for key, _ in world.probe])
    other._inner = type("Same", (type(other._inner),), {"fingerprint": world.clip.fingerprint})(
        list(other._inner._image_rows), other_clip()._images, other._inner.concepts, other._inner._texts
    )
    for path in tmp_path.glob("images-*/features/*"):
        path.unlink()
    with pytest.warns(UserWarning, match="will be recorded again"):
        found = world.dissect(tmp_path, clip=other)
    assert {name for name, time in times(tmp_path).items() if time == before[name]} == set()
    assert not equal(tensors(found.recording, "act"), old)
    assert same(found, world.dissect(None, clip=other))


def test_moments_of_another_function_of_a_layer_are_its_own(tmp_path: Path) -> None:
    world = World()
    layers = ["head", "head:identity", "head:sigmoid"]
    assert same(world.dissect(tmp_path, layers), world.dissect(None, layers))
    assert {name.split("/")[0] for name in kept(tmp_path)} == {"images", "head", "head%3Aidentity", "head%3Asigmoid"}


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 16]) + data[-2:])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, flipped, emptied])
@pytest.mark.parametrize("name", OF_ACT)
def test_a_damaged_file_is_computed_again_with_a_warning(
    recorded: tuple[Path, Dissection], copied: Path, name: str, damage: Any
) -> None:
    first, path = recorded[1], kept(copied)[name]
    whole = load(path.read_bytes())
    damage(path)
    with pytest.warns(UserWarning, match=rf"store: .*{path.name} is damaged.*; it is computed again") as warned:
        result = labelled(copied)
    assert result == str(first)
    assert len(warned) == 1
    assert equal_by_name(load(path.read_bytes()), whole)
    assert equal(tensors(recording_of(World(), copied, "act"), "act"), tensors(first.recording, "act"))


@pytest.mark.parametrize("name", OF_ACT)
def test_a_missing_file_is_computed_again_without_a_word(
    recorded: tuple[Path, Dissection], copied: Path, name: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = kept(copied)[name]
    whole = load(path.read_bytes())
    path.unlink()
    assert labelled(copied) == str(recorded[1])
    assert equal_by_name(load(path.read_bytes()), whole)
    assert not recwarn.list


def labelled(store: Path) -> str:
    """The labels of a store that is opened, as a table; what was kept of its layer is all read."""
    found = World().open(store)
    sample_of(found.recording, "act")
    return str(found)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kept files that are read from now on."""
    seen: list[str] = []
    get = KeptFiles.get

    def seeing(self: KeptFiles, name: str) -> dict[str, Tensor] | None:
        seen.append(name)
        return get(self, name)

    monkeypatch.setattr(KeptFiles, "get", seeing)
    return seen


def test_only_the_files_that_are_asked_for_are_read(copied: Path, reads: list[str]) -> None:
    recording = recording_of(World(), copied, "act")
    moments_of(recording, "act")
    assert reads == ["moments-8", "moments-8"]  # of the images, and of the layer
    reads.clear()
    sample_of(recording, "act")
    assert reads == ["sample"]


def test_a_file_that_is_not_asked_for_is_not_missed(copied: Path, no_reading: Any) -> None:
    """Neither the sample by a labelling, nor the moments by whoever asks for the sample."""
    no_reading()
    paths = kept(copied)
    paths["act/sample"].unlink()
    moments_of(recording_of(World(), copied, "act"), "act")
    assert "act/sample" not in kept(copied)
    for name in ("images/moments-8", "act/moments-8"):
        paths[name].unlink()
    with pytest.raises(pytest.fail.Exception, match="activations are read"):
        moments_of(recording_of(World(), copied, "act"), "act")


def test_all_that_is_damaged_is_mended_in_one_pass(
    recorded: tuple[Path, Dissection], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file with one warning; the tally is damaged too, and counted in the same pass."""
    paths = kept(copied)
    wholes = {name: load(path.read_bytes()) for name, path in paths.items()}
    for path in paths.values():
        flipped(path)
    recording = recording_of(World(), copied, "act")
    seen = counted(recording, monkeypatch)
    with pytest.warns(UserWarning, match="is damaged; it is computed again") as warned:
        found = tensors(recording, "act")
    assert sorted(str(warning.message).split()[1] for warning in warned) == sorted(map(str, paths.values()))
    assert seen == list(range(4))
    assert equal(found, tensors(recorded[1].recording, "act"))
    assert all(equal_by_name(load(path.read_bytes()), wholes[name]) for name, path in paths.items())


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_store_that_cannot_be_written_to_is_labelled_all_the_same(
    recorded: tuple[Path, Dissection], copied: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    for path in kept(copied).values():
        path.unlink()

    def failing(path: Path, data: bytes) -> int:
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(Path, "write_bytes", failing)
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    assert labelled(copied) == str(recorded[1])
    assert not kept(copied)


class StoppedError(Exception):
    """Ends a pass where it is."""


def stopping(recording: Recording, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recording give so many shards more, then stop."""
    left, read = [shards], type(recording).recorded_shards

    def some(self: Recording, module: str, numbers: Any) -> Iterator[Shard]:
        for shard in read(self, module, numbers):
            if left[0] == 0:
                raise StoppedError
            left[0] -= 1
            yield shard

    monkeypatch.setattr(type(recording), "recorded_shards", some)


def counted(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the shards that are read from now on."""
    seen: list[int] = []
    read = type(recording).recorded_shards

    def counting(self: Recording, module: str, numbers: Any) -> Iterator[Shard]:
        for number in numbers:
            seen.append(number)
            yield from read(self, module, [number])

    monkeypatch.setattr(type(recording), "recorded_shards", counting)
    return seen


@pytest.mark.parametrize("layer", ["act", "head"])
@pytest.mark.parametrize("stops", [(1,), (5,), (14,), (3, 1, 4)])
def test_a_pass_that_is_stopped_goes_on_and_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, stops: tuple[int, ...]
) -> None:
    world = World()
    world.dissect(tmp_path, layer, shard_images=2, batch_size=2)
    whole = tensors(recording_of(world, tmp_path, layer), layer)
    for path in kept(tmp_path).values():
        path.unlink()
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    for stop in stops:
        with monkeypatch.context() as patch:
            recording = recording_of(world, tmp_path, layer)
            stopping(recording, stop, patch)
            with pytest.raises(StoppedError):
                moments_of(recording, layer)
        assert set(kept(tmp_path)) == {f"{layer}/partial-8"}
    with monkeypatch.context() as patch:
        recording = recording_of(world, tmp_path, layer)
        seen = counted(recording, patch)
        moments_of(recording, layer)
        assert seen == list(range(sum(stops), 15))  # what was summed up is not read again
    assert equal(tensors(recording, layer), whole)
    assert f"{layer}/partial-8" not in kept(tmp_path)
    assert equal(tensors(recording_of(world, tmp_path, layer), layer), whole)


def recording_of(world: World, store: Path, layer: str) -> Recording:
    """The recording of one layer, of which nothing was measured."""
    return open_recording(store, clip=world.clip, layers=layer)[0]


def test_a_partial_pass_over_other_activations_is_begun_anew(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for path in kept(copied).values():
        path.unlink()
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    with monkeypatch.context() as patch:
        recording = recording_of(world, copied, "act")
        stopping(recording, 3, patch)
        with pytest.raises(StoppedError):
            moments_of(recording, "act")
    other_shard(copied)
    recording = recording_of(world, copied, "act")
    seen = counted(recording, monkeypatch)
    resumed = moments_of(recording, "act")
    assert seen == list(range(4))
    values = torch.cat([shard.activations.dense() for shard in recording.shards("act")])
    torch.testing.assert_close(resumed.sums.sum(0), values.double().sum(0))


def test_a_damaged_partial_pass_is_begun_anew(
    recorded: tuple[Path, Dissection], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, whole = World(), tensors(recorded[1].recording, "act")
    for path in kept(copied).values():
        path.unlink()
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    with monkeypatch.context() as patch:
        recording = recording_of(world, copied, "act")
        stopping(recording, 2, patch)
        with pytest.raises(StoppedError):
            moments_of(recording, "act")
    flipped(kept(copied)["act/partial-8"])
    with pytest.warns(UserWarning, match=r"partial-8\.safetensors is damaged; it is computed again"):
        assert equal(tensors(recording_of(world, copied, "act"), "act"), whole)


@pytest.mark.parametrize("competitors", [None, 1, 4])
def test_a_pass_in_memory_is_resumed_too(monkeypatch: pytest.MonkeyPatch, competitors: int | None) -> None:
    """What was written down are copies: the sums that went on after it are not in them."""
    activations, features = activations_of(competitors, 61), embedded(61, 5)
    whole = tensors(in_batches(activations, features, 61), "layer")
    recording = in_batches(activations, features, 4)
    # time stands still but at the second shard of each pass, so that what follows is summed up but not written down
    clock = iter([0, 0, 61, 61, 61, 61, 61, 0, 0, 61, 61, 61, 61, 61, 61, *[0] * 99])
    monkeypatch.setattr(measuring, "monotonic", lambda: next(clock))
    for stop in (5, 4):
        with monkeypatch.context() as patch:
            stopping(recording, stop, patch)
            with pytest.raises(StoppedError):
                moments_of(recording, "layer")
    seen = counted(recording, monkeypatch)
    found = tensors(recording, "layer")
    assert seen[0] == 4
    assert equal(found, whole)


def test_files_of_another_format_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = KeptFiles(tmp_path, "a")
    files.put("name", {"x": torch.arange(3)})
    assert torch.equal(files.get("name")["x"], torch.arange(3))  # type: ignore[index]
    assert KeptFiles(tmp_path, "b").get("name") is None
    monkeypatch.setattr("lwta.dissection.store.kept_files.FORMAT", "2")
    assert KeptFiles(tmp_path, "a").get("name") is None
    assert files.get("other") is None
    files.drop("name")
    files.drop("name")
    assert files.get("name") is None
