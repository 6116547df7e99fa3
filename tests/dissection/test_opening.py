"""A store without its network."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwta.dissection import open_store
from tests.support.stores import COUNT, World, other_clip, same, stop_after
from tests.support.worlds import images


def test_an_opened_store_asks_no_network(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path)
    concepts = ["a red thing", "a grey thing"]
    opened = open_store(tmp_path, clip=world.clip, concepts=concepts, layers="act")
    assert opened.layers == ["act"]
    assert same(opened, world.dissect(layers="act", concepts=concepts, similarity="auto"))
    opened.to_csv(tmp_path / "labels.csv")
    assert same(opened.relabel(world.clip.concepts, "cos"), world.dissect(layers="act", similarity="cos"))
    opened.to_report(tmp_path / "report")
    assert not list((tmp_path / "report" / "images").iterdir())
    with pytest.raises(ValueError, match="explaining takes the network"):
        opened.explain(images(1)[0][1])


def test_it_shows_the_images_it_is_given(tmp_path: Path) -> None:
    world = World()
    world.dissect(tmp_path)
    world.open(tmp_path, probe=images(COUNT)).to_report(tmp_path / "report")
    assert list((tmp_path / "report" / "images").iterdir())


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    with pytest.raises(FileNotFoundError, match="there is no network in"):
        world.open(tmp_path)
    stop_after(monkeypatch, 30, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        world.dissect(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"\d of 4 shards of .* are complete; dissect the network again"):
        world.open(tmp_path)
    world.dissect(tmp_path)
    with pytest.raises(ValueError, match="'hed' is not; did you mean 'head'"):
        world.open(tmp_path, layers="hed")
    with pytest.raises(ValueError, match="clip must be given"):
        open_store(tmp_path, concepts=world.clip.concepts)
    with pytest.raises(ValueError, match="clip must be the encoder with which"):
        world.open(tmp_path, clip=other_clip())
    with pytest.raises(FileNotFoundError, match="nothing was stored there"):
        world.open(tmp_path, name="none")
