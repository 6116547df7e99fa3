"""Launches on the GPU that the tensors are on."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lwta.kernels.operations
from lwta import LWTALinear
from lwta.kernels.triton_parts.launch import on_its_device


def launch_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in pkgutil.iter_modules(lwta.kernels.operations.__path__):
        for name, value in vars(importlib.import_module(f"lwta.kernels.operations.{module.name}")).items():
            if name.startswith("launch"):
                yield f"{module.name}.{name}", value


def test_every_launch_function_heeds_the_device() -> None:
    found = dict(launch_functions())
    assert len(found) >= 12
    for name, function in found.items():
        assert getattr(function, "__wrapped__", None) is not None, f"{name} lacks @on_its_device"


def test_the_device_is_that_of_the_first_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Tensor] = []

    class Guard:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

        def __enter__(self) -> None:
            entered.append(self.tensor)

        def __exit__(self, *_: object) -> None:
            entered.append(-self.tensor)

    @on_its_device
    def launch(x: Tensor, factor: float, *, shift: float = 0.0) -> Tensor:
        """Doc."""
        assert len(entered) == 1
        return x * factor + shift

    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    x = torch.tensor(2.0)
    assert launch(x, 3.0, shift=1.0) == 7
    assert entered == [x, -x]
    assert (launch.__name__, launch.__doc__) == ("launch", "Doc.")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_network_on_a_gpu_that_is_not_the_current_one() -> None:
    layer = LWTALinear(16, 64, competitors=8).to("cuda:1")
    out = layer(torch.randn(32, 16, device="cuda:1"))
    out.sum().backward()
    assert torch.cuda.current_device() == 0
    assert out.device == torch.device("cuda:1")
    assert bool(((out != 0).view(32, 8, 8).sum(-1) <= 1).all())
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())
