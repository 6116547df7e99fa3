"""The examples in the docstrings run and print what they say."""

import doctest
import importlib

import pytest
import torch
from torch import nn

import lwta

MODULES = (
    *("lwta.calibration", "lwta.checkpoint", "lwta.convert", "lwta.functional", "lwta.layers", "lwta.loss"),
    *(
        "lwta.images.base",
        "lwta.images.opening",
        "lwta.models.registry",
        "lwta.network",
        "lwta.saving",
        "lwta.schedule",
        "lwta.training.evaluation",
    ),
    *("lwta.training.train", "lwta.usage", "lwta.winners"),
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    names = {"torch": torch, "nn": nn, **{public: getattr(lwta, public) for public in lwta.__all__}, **vars(module)}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0
