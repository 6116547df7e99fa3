"""Whatever happens to a store: what is opened is bit-equal to a dissection in memory, or refused in words."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from PIL import Image
from torch import Tensor

from lwta.dissection import Dissection
from lwta.dissection.store.checked_files import DamagedFileError
from tests.support.stores import World, same
from tests.support.worlds import SIMILARITY, ColourNetwork, to_tensor

LAYERS = ("act", "flat", "head")
SIMILARITIES = (SIMILARITY, "auto", "soft_wpmi", "cos")
NAMES = ("ColourNetwork", "second")
REFUSALS = (ValueError, FileNotFoundError, DamagedFileError)

some_layers = st.lists(st.sampled_from(LAYERS), min_size=1, unique=True).map(tuple)
similarities = st.sampled_from(SIMILARITIES)
names = st.sampled_from(NAMES + NAMES[:1])  # more often the same


class Killed(BaseException):
    """Ends a dissection where it is."""


class Interrupted:
    """The transform of the tests, which does something else before an image."""

    def __init__(self, image: int, action: Callable[[], object]) -> None:
        self._left, self._action = image, action

    def __repr__(self) -> str:
        return "transform"

    def __call__(self, image: Image.Image) -> Tensor:
        if self._left == 0:
            self._action()
        self._left -= 1
        return to_tensor(image)


def world() -> World:
    return World(ColourNetwork("sample"), count=7)


def record(store: Path | None, layers: tuple[str, ...], transform: Any = None, **changes: Any) -> Dissection:
    transform = Interrupted(-1, print) if transform is None else transform
    return world().dissect(store, list(layers), batch_size=2, shard_images=2, transform=transform, **changes)


@cache
def in_memory(layers: tuple[str, ...], similarity: str) -> Dissection:
    return record(None, layers, similarity=similarity)


@contextmanager
def fsync(count: int) -> Iterator[None]:
    """The process is killed where it would wait for the disk for the n-th time."""
    left = [count]

    def counting(descriptor: int) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    with patch.object(os, "fsync", counting):
        yield


@contextmanager
def refused_in_words() -> Iterator[None]:
    """Let a refusal pass, but no error that Python or JSON raises by itself, such as JSONDecodeError."""
    try:
        yield
    except REFUSALS as error:
        if type(error) not in REFUSALS or "store" not in str(error):
            raise AssertionError(f"{type(error).__name__} is no refusal in words") from error


class Store(RuleBasedStateMachine):
    """Commands, kills and damage, in any order."""

    @initialize(layers=some_layers)
    def begin(self, layers: tuple[str, ...]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._store = Path(self._folder.name) / "store"
        self.dissect(layers, SIMILARITY, NAMES[0])

    def teardown(self) -> None:
        self._folder.cleanup()

    @rule(layers=some_layers, similarity=similarities, name=names)
    def dissect(self, layers: tuple[str, ...], similarity: str, name: str) -> None:
        with refused_in_words():
            assert same(record(self._store, layers, similarity=similarity, name=name), in_memory(layers, similarity))

    @rule(layers=some_layers, name=names, writes=st.integers(0, 60))
    def dissect_and_be_killed_while_writing(self, layers: tuple[str, ...], name: str, writes: int) -> None:
        try:
            with refused_in_words(), fsync(writes):
                assert same(record(self._store, layers, name=name), in_memory(layers, SIMILARITY))
        except Killed:
            pass

    @rule(layers=some_layers, others=some_layers, image=st.integers(0, 6), name=names)
    def dissect_while_another_process_does(
        self, layers: tuple[str, ...], others: tuple[str, ...], image: int, name: str
    ) -> None:
        def another() -> None:
            with refused_in_words():
                assert same(record(self._store, others, name=name), in_memory(others, SIMILARITY))

        with refused_in_words():
            transform = Interrupted(image, another)
            assert same(record(self._store, layers, transform, name=name), in_memory(layers, SIMILARITY))

    @rule(layers=some_layers, image=st.integers(0, 6), name=names)
    def dissect_and_be_killed_at_an_image(self, layers: tuple[str, ...], image: int, name: str) -> None:
        def die() -> None:
            raise Killed

        try:
            with refused_in_words():
                record(self._store, layers, Interrupted(image, die), name=name)
        except Killed:
            pass

    @rule(layers=some_layers, similarity=similarities, name=names)
    def reopen_and_relabel(self, layers: tuple[str, ...], similarity: str, name: str) -> None:
        alone = world()
        with refused_in_words():
            opened = alone.open(self._store, layers=list(layers), name=name)
            assert same(opened, in_memory(layers, SIMILARITY))
            assert same(opened.relabel(alone.clip.concepts, similarity), in_memory(layers, similarity))

    @rule(chance=st.randoms(use_true_random=False), kind=st.sampled_from(["flip", "truncate", "delete", "letter"]))
    def damage(self, chance: Any, kind: str) -> None:
        files = sorted(path for path in self._store.rglob("*") if path.is_file() and path.name != ".lock")
        if not files:
            return
        path = chance.choice(files)
        data = bytearray(path.read_bytes())
        place = chance.randrange(len(data)) if data else 0
        if kind == "delete" or not data:
            path.unlink()
        elif kind == "truncate":
            path.write_bytes(data[:place])
        else:
            data[place] = data[place] ^ (1 << chance.randrange(8)) if kind == "flip" else chance.choice(b"a1")
            path.write_bytes(data)
        for name in NAMES:
            self.reopen_and_relabel(LAYERS, SIMILARITY, name)
            for layer in LAYERS:
                self.reopen_and_relabel((layer,), SIMILARITY, name)

    @rule(chance=st.randoms(use_true_random=False))
    def begin_anew(self, chance: Any) -> None:
        """As a refusal advises."""
        folders = sorted(self._store.iterdir()) if self._store.exists() else []
        if folders:
            shutil.rmtree(chance.choice(folders))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:store")
def test_a_store_is_right_or_refused() -> None:
    run_state_machine_as_test(
        Store,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
