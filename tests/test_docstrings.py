"""The examples in the docstrings of every module run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import tempfile
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import nn

import lwta
import lwta.dissection

WITH_EXAMPLES = 40  # at least so many modules have some


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(lwta.__path__, "lwta."):
        if not module.name.endswith("__main__"):
            yield module.name


def names() -> dict[str, object]:
    """What examples may use without importing it."""
    public = {name: getattr(package, name) for package in (lwta, lwta.dissection) for name in package.__all__}
    return {"tempfile": tempfile, "torch": torch, "torchvision": torchvision, "nn": nn, **public}


@pytest.fixture(scope="module")
def attempted() -> Iterator[dict[str, int]]:
    counts: dict[str, int] = {}
    yield counts
    if len(counts) > 100:  # all ran, in this process
        assert sum(map(bool, counts.values())) >= WITH_EXAMPLES


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name: str, attempted: dict[str, int]) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={**names(), **vars(module)})
    attempted[name] = result.attempted
    assert result.failed == 0
