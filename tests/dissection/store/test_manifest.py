"""Manifests that are damaged, hostile, or of version 0.1.0."""

from __future__ import annotations

import json
import random
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lwta
from lwta.dissection import Dissection, Embeddings, open_store
from lwta.dissection.store.manifest import MANIFEST, PARTS, read_manifest
from lwta.dissection.store.opening import check_network, recorded_clip
from tests.support.stores import COUNT, World, same
from tests.support.worlds import ColourNetwork, embeddings, images

NETWORK = "ColourNetwork"
CONCEPTS = ["a red thing", "a blue thing"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World, Dissection]:
    """A store, which tests leave as it is."""
    store, world = tmp_path_factory.mktemp("recorded"), World(ColourNetwork("argmax"), count=9)
    return store, world, world.dissect(store)


def of_version_0_1_0(store: Path) -> None:
    """Take away what the manifests of version 0.1.0 did not have."""
    for path in store.glob(f"*/{MANIFEST}"):
        manifest = json.loads(path.read_bytes())
        del manifest["checksum"], manifest["written_by"]
        manifest.pop("heads", None)
        manifest["parts"] = {name: manifest["parts"][name] for name in PARTS[manifest["kind"]]}
        path.write_text(json.dumps(manifest, indent=1))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The text with another letter or digit in one place."""
    text = data.decode()
    place = chance.choice([i for i, letter in enumerate(text) if letter.isalnum()])
    letters = string.digits if text[place].isdigit() else string.ascii_lowercase
    other = chance.choice([letter for letter in letters if letter != text[place]])
    return (text[:place] + other + text[place + 1 :]).encode()


@pytest.mark.parametrize("kind", ["network", "images"])
def test_any_changed_letter_is_noticed(recorded: tuple[Path, World, Dissection], tmp_path: Path, kind: str) -> None:
    (source,) = recorded[0].glob(f"{NETWORK if kind == 'network' else 'images-*'}/{MANIFEST}")
    data, chance = source.read_bytes(), random.Random(0)
    for _ in range(300):
        (tmp_path / MANIFEST).write_bytes(mutated(data, chance))
        with pytest.raises(ValueError, match=r"manifest\.json is damaged; remove the folder|of the format"):
            read_manifest(tmp_path, kind)


@pytest.mark.parametrize("kind", ["network", "images"])
def test_a_changed_letter_of_a_manifest_without_checksum_is_never_a_traceback(tmp_path: Path, kind: str) -> None:
    """Nor are other labels read: what is opened is what was recorded."""
    world = World(ColourNetwork("argmax"), count=9)
    world.dissect(tmp_path)
    of_version_0_1_0(tmp_path)
    first = world.open(tmp_path)
    (path,) = tmp_path.glob(f"{NETWORK if kind == 'network' else 'images-*'}/{MANIFEST}")
    data, chance, opened = path.read_bytes(), random.Random(0), 0
    for _ in range(60):
        path.write_bytes(mutated(data, chance))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = world.open(tmp_path, layers=["act", "head"])
        except (ValueError, FileNotFoundError):
            continue
        opened += 1
        assert same(result, first)
    print(f"{opened} of 60 changes harm nothing")


def changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update(changes)


def grid(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["grid"].update(changes)


def shard(line: Any, name: str = "00000") -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["shards"].update({name: line})


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no grid": lambda manifest: manifest.pop("grid"),
    "grid of batch size 0": grid(batch_size=0),
    "grid of batches 0": grid(batches=0),
    "grid of -5 images": grid(images=-5),
    "grid of more images than the probe": grid(images=10**15),
    "grid of texts": grid(images="9"),
    "grid of more": grid(more=1),
    "no shards": lambda manifest: manifest.pop("shards"),
    "shards that are a list": changed(shards=[]),
    "a shard outside the grid": shard({"keys": "", "files": {}}, "01000"),
    "a shard without a number": shard({"keys": "", "files": {}}, "first"),
    "a shard of a negative number": shard({"keys": "", "files": {}}, "-0001"),
    "a line that is null": shard(None),
    "a line without keys": shard({"files": {}}),
    "a line of other names": shard({"klys": "", "files": {}}),
    "keys that are a number": shard({"keys": 7, "files": {}}),
    "files that are a list": shard({"keys": "", "files": []}),
    "a checksum that is null": shard({"keys": "", "files": {"layers/act": None}}),
    "parts that are a list": changed(parts=[]),
    "parts that lack": lambda manifest: manifest["parts"].pop("pool"),
    "a pool that is none": lambda manifest: manifest["parts"].update(pool="median"),
    "a clip that is a number": lambda manifest: manifest["parts"].update(clip=7),
    "a seed that is a text": lambda manifest: manifest["parts"].update(seed="0"),
    "a code that is a list": lambda manifest: manifest["parts"].update(code=[]),
    "clip_name that is a number": changed(clip_name=7),
    "layers that are a text": changed(layers="act"),
    "layers of numbers": changed(layers=[7]),
    "heads that are a list": changed(heads=["head"]),
    "heads of numbers": changed(heads={"head": 1}),
    "another kind": changed(kind="images"),
    "a schema that is null": changed(schema=None),
    "something else": changed(other=1),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_manifests_that_cannot_be_are_damaged(
    recorded: tuple[Path, World, Dissection], tmp_path: Path, change: str
) -> None:
    """In a manifest without checksum, as anyone can make one."""
    manifest = json.loads((recorded[0] / NETWORK / MANIFEST).read_bytes())
    del manifest["checksum"], manifest["written_by"]
    HOSTILE[change](manifest)
    (tmp_path / NETWORK).mkdir()
    (tmp_path / NETWORK / MANIFEST).write_text(json.dumps(manifest))
    known: dict[str, Any] = {"clip": recorded[1].clip, "concepts": CONCEPTS}
    for use in (
        lambda: open_store(tmp_path, **known),
        lambda: recorded_clip(tmp_path),
        lambda: check_network(tmp_path, recorded[1].model),
        lambda: recorded[1].dissect(tmp_path),
    ):
        with pytest.raises(ValueError, match=r"manifest\.json is damaged; remove the folder .* \(what is wrong: "):
            use()


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff", b"3", b"null", b"[]", b'{"schema": true}'])
def test_manifests_that_are_none_are_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged; remove the folder"):
        read_manifest(tmp_path, "network")


class TestOfVersion010:
    """Stores of the first release hold less, and are used all the same."""

    def test_are_used_and_completed(self, tmp_path: Path) -> None:
        world = World()
        first = world.dissect(tmp_path, "act")
        of_version_0_1_0(tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        world.calls()
        assert same(first, world.dissect(tmp_path, "act"))
        assert same(first, world.open(tmp_path))
        check_network(tmp_path, world.model)
        assert world.calls() == (0, 0)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        world.dissect(tmp_path, ["act", "head"])
        assert world.calls() == (COUNT, 0)
        manifest = read_manifest(tmp_path / NETWORK, "network")[0]
        assert manifest["parts"]["code"].startswith("forward ")
        assert "checksum" in manifest

    def test_are_refused_where_the_old_parts_differ(self, tmp_path: Path) -> None:
        World().dissect(tmp_path)
        of_version_0_1_0(tmp_path)
        with pytest.raises(ValueError, match="recorded with another architecture"):
            World(ColourNetwork("argmax")).dissect(tmp_path)

    def test_know_embeddings_by_their_texts_too(self, tmp_path: Path) -> None:
        world = World()
        inner = world.clip._inner
        legacy = f"{inner.legacy_fingerprint}"
        assert legacy != inner.fingerprint

        class Old(Embeddings):
            fingerprint = legacy  # type: ignore[assignment]

        old = Old(list(inner._image_rows), inner._images, inner.concepts, inner._texts)
        first = world.dissect(tmp_path, "act", clip=old)
        of_version_0_1_0(tmp_path)
        world.calls()
        assert same(first, world.open(tmp_path, clip=inner))
        assert same(first, world.dissect(tmp_path, "act", clip=inner))
        assert world.calls() == (0, 0)
        with pytest.raises(ValueError, match="clip must be the encoder with which"):
            world.open(tmp_path, ["new"], clip=with_a_word_more(inner))


def with_a_word_more(before: Embeddings) -> Embeddings:
    features = torch.cat([before._texts, before._texts[:1] + before._texts[1:2]])
    return Embeddings(list(before._image_rows), before._images, [*before.concepts, "new"], features)


def test_embeddings_with_a_word_more_open_the_store(tmp_path: Path) -> None:
    world = World()
    first, more = world.dissect(tmp_path), with_a_word_more(embeddings([key for key, _ in images(COUNT)]))
    world.calls()
    assert same(first, world.open(tmp_path, clip=more))
    assert same(first, world.dissect(tmp_path, clip=more))
    opened = world.open(tmp_path, ["new", "a blue thing"], clip=more)
    assert same(opened, world.dissect(tmp_path, clip=more, concepts=["new", "a blue thing"]))
    assert world.calls() == (0, 0)
    assert same(opened, world.dissect(clip=more, concepts=["new", "a blue thing"]))


@pytest.mark.parametrize("name", ["ViT-B-32//etc/hostname", "ViT-B-32/w.pt", "any", "ViT-B-32", "", "hf-hub:a/b"])
def test_a_store_does_not_say_which_file_is_opened_for_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world = World(count=9)
    world.clip.name = name  # type: ignore[attr-defined]
    world.dissect(tmp_path)
    monkeypatch.setattr("open_clip.create_model_and_transforms", lambda *_, **__: pytest.fail("a model is opened"))
    for use in (lambda: recorded_clip(tmp_path), lambda: open_store(tmp_path, concepts=CONCEPTS)):
        with pytest.raises(
            ValueError, match=r"clip must be given \(--clip on the command line\): .* was recorded with"
        ):
            use()
    open_store(tmp_path, concepts=CONCEPTS, clip=world.clip)


def test_a_published_clip_is_opened_by_its_name(tmp_path: Path) -> None:
    for i, name in enumerate(("tiny", "ViT-B-32/openai")):
        world = World(count=3)
        world.clip.name = name  # type: ignore[attr-defined]
        world.dissect(tmp_path / str(i))
        assert recorded_clip(tmp_path / str(i)) == name


def test_versions_that_wrote_are_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"lwta": lwta.__version__, "torch": str(torch.__version__)}
    world = World()
    world.dissect(tmp_path, "act")
    assert read_manifest(tmp_path / NETWORK, "network")[0]["written_by"] == [own]
    monkeypatch.setattr("lwta.dissection.store.manifest.__version__", "9.9")
    with pytest.warns(UserWarning, match=rf"was written by lwta {lwta_version(own)}, this is 9\.9; if they draw"):
        world.dissect(tmp_path, "head")
    assert read_manifest(tmp_path / NETWORK, "network")[0]["written_by"] == [own, {**own, "lwta": "9.9"}]


def lwta_version(versions: dict[str, str]) -> str:
    return versions["lwta"].replace(".", r"\.")
