"""The examples in the docstrings of dissection run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import tempfile

import pytest
import torch
import torchvision
from torch import nn

import lwta
from lwta import dissection

MODULES = [
    "atlas.atlas",
    "atlas.files",
    "atlas.plots",
    "audit",
    "concepts",
    "dissect",
    "embeddings",
    "scoring.identification",
    "scoring.layers",
    "scoring.part",
    "scoring.prediction",
    "scoring.scores",
    "similarity",
    "similarity.cos",
    "similarity.cos_cubed",
    "similarity.exact",
    "similarity.jsd",
    "similarity.rank_reorder",
    "similarity.soft_wpmi",
    "similarity.wpmi",
    "store.opening",
    "table",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"lwta.dissection.{name}")
    public = {name: getattr(dissection, name) for name in dissection.__all__}
    names = {
        "tempfile": tempfile,
        "torch": torch,
        "torchvision": torchvision,
        "nn": nn,
        "LWTA": lwta.LWTA,
        **public,
        **vars(module),
    }
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0
