"""Two linear layers with competition between, only winners kept."""

import pytest
import torch
from torch.nn import functional as F

from lwta.kernels import mlp
from tests.support.definitions import straight_through

SEED, TAU = 41, 0.8


def _operands(dtype: torch.dtype, units: int = 24) -> tuple[torch.Tensor, ...]:
    shapes = (7, 3, 5), (units, 5), (units,), (6, units), (6,)
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize("competitors", [1, 2, 3, 8, 12, 24])
def test_output_and_gradients_are_those_of_the_dense_layers(competitors: int, mode: str) -> None:
    x, weight1, bias1, weight2, bias2 = leaves = _operands(torch.float64)
    y, _, _ = mlp(x, weight1, bias1, weight2, bias2, competitors, mode, TAU, torch.tensor(SEED))
    h = F.linear(x, weight1, bias1)
    seed = None if mode == "argmax" else SEED
    expected = F.linear(straight_through(h, competitors, mode, TAU, 2, seed), weight2, bias2)
    assert torch.allclose(y, expected)
    grad = torch.randn_like(y)
    for got, wanted in zip(
        torch.autograd.grad(y, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        assert torch.allclose(got, wanted)


def test_keeps_only_inputs_and_winners_for_backward() -> None:
    kept: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    x, weight1, bias1, weight2, bias2 = _operands(torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        mlp(x, weight1, bias1, weight2, bias2, 8, "sample", TAU, torch.tensor(SEED))
    assert (7, 3, 24) not in kept  # neither responses nor dense outputs
    assert kept.count(torch.Size((7, 3, 3))) == 2  # values and indices


def test_without_biases() -> None:
    x, weight1, _, weight2, _ = _operands(torch.float32)
    y, _, _ = mlp(x, weight1, None, weight2, None, 4, "argmax", TAU, None)
    y.sum().backward()
    assert weight1.grad is not None
