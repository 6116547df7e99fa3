"""The examples in the docstrings of every module run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import tempfile
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

import lwta
import lwta.dissection

WITH_EXAMPLES = 40  # at least so many modules have some


def modules() -> Iterator[str]:
    yield "lwta"
    for module in pkgutil.walk_packages(lwta.__path__, "lwta."):
        if not module.name.endswith("__main__"):
            yield module.name


def names() -> dict[str, object]:
    """What examples may use without importing it."""
    public = {name: getattr(package, name) for package in (lwta, lwta.dissection) for name in package.__all__}
    return {"tempfile": tempfile, "torch": torch, "torchvision": torchvision, "nn": nn, **public}


def prompts(module: ModuleType) -> int:
    """How many examples stand in the source, whether or not doctest finds them."""
    return len(re.findall(r"^\s*>>> ", inspect.getsource(module), re.MULTILINE))


@pytest.mark.parametrize("name", list(modules()))
def test_every_example_runs_and_prints_what_it_says(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={**names(), **vars(module)})
    assert result.failed == 0
    assert result.attempted == prompts(module)


def test_modules_and_examples_are_found() -> None:
    found = [importlib.import_module(name) for name in modules()]
    assert {"lwta", "lwta.kernels", "lwta.dissection"} <= {module.__name__.rpartition(".")[0] for module in found}
    assert sum(prompts(module) > 0 for module in found) >= WITH_EXAMPLES
