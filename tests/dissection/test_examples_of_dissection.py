"""The examples in the docstrings of dissection run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
import torchvision
from torch import nn

import lwta
from lwta import dissection

SIMILARITIES = ["cos", "cos_cubed", "exact", "jsd", "rank_reorder", "soft_wpmi", "wpmi"]
MODULES = [
    *("concepts", "dissect", "embeddings", "similarity", "table"),
    *(f"similarity.{name}" for name in SIMILARITIES),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"lwta.dissection.{name}")
    public = {name: getattr(dissection, name) for name in dissection.__all__}
    names = {"torch": torch, "torchvision": torchvision, "nn": nn, "LWTA": lwta.LWTA, **public, **vars(module)}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0
