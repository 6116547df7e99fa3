"""What `torch.utils.flop_counter` counts, beside the dense layers that the operations stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lwta import LWTA, LWTAMlp, Winners, functional
from lwta.kernels import winners_sum


def _counts(run: Callable[[], Tensor]) -> tuple[int, int]:
    """Operations counted in the forward pass and in the backward pass."""
    with FlopCounterMode(display=False) as forward:
        y = run()
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def _parameter(*shape: int) -> Tensor:
    return torch.randn(shape, requires_grad=True)


@pytest.mark.parametrize("rows", [(128,), (2, 7), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_a_perceptron_counts_as_one_with_gelu_and_a_product_more_in_backward(rows: tuple[int, ...], bias: bool) -> None:
    x = _parameter(*rows, 64)
    dense = nn.Sequential(nn.Linear(64, 256, bias), nn.GELU(), nn.Linear(256, 32, bias))
    forward, backward = _counts(lambda: dense(x))
    again = 2 * x.shape[:-1].numel() * 64 * 256
    assert _counts(lambda: LWTAMlp(64, 256, 32, competitors=8, bias=bias)(x)) == (forward, backward + again)
    assert forward > 0


def test_layers_fused_with_competition_count_as_dense_ones() -> None:
    x, weight1, weight2 = _parameter(3, 5, 8), _parameter(24, 8), _parameter(7, 24)
    winners = functional.linear_winners(x.detach(), weight1.detach(), None, 4)
    values, h = winners.values.clone().requires_grad_(), _parameter(3, 5, 24)
    compact = Winners(values, winners.indices, 4)
    first = _counts(lambda: functional.linear_winners(x, weight1, None, 4).values)
    second = _counts(lambda: functional.winners_linear(compact, weight2, _parameter(7)))
    assert first == _counts(lambda: F.linear(x, weight1))
    assert second == _counts(lambda: F.linear(h, weight2, _parameter(7)))


def test_a_sum_by_winner_counts_as_the_product_with_the_dense_output() -> None:
    value, index, x = torch.randn(20, 3), torch.randint(0, 4, (20, 3)), torch.randn(20, 5)
    with FlopCounterMode(display=False) as sparse:
        winners_sum(value, index, x, 4)
    with FlopCounterMode(display=False) as dense:
        Winners(value, index, 4).to_dense().t() @ x
    assert sparse.get_total_flops() == dense.get_total_flops() > 0


def test_the_competition_itself_counts_as_nothing() -> None:
    x = _parameter(3, 8)
    assert _counts(lambda: LWTA(4)(x)) == (0, 0)
    assert _counts(lambda: functional.kl_to_uniform(x, 4)) == (0, 0)


def test_counts_are_of_the_modules_that_multiply() -> None:
    model = nn.Sequential(nn.Linear(16, 64), LWTAMlp(64, 256, competitors=8))
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(4, 16))
    counts = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    assert counts["Sequential.0"] == 2 * 4 * 16 * 64
    assert counts["Sequential.1"] == 4 * 4 * 64 * 256
