"""KL of the winner distribution from the uniform one, and its gradient."""

import math

import pytest
import torch

from lwta.kernels import kl_to_uniform
from lwta.kernels.operations.kl_to_uniform import kl_to_uniform_backward, launch_backward, launch_forward
from tests.support.definitions import FLOAT32_EPS, blocks_last
from tests.support.kernel_cases import CASES, KERNEL_DTYPES, KERNELS, Case, label
from tests.support.pairwise import rotated


def _definition(x: torch.Tensor, competitors: int, dim: int) -> torch.Tensor:
    """Through torch.distributions, in float64."""
    h = blocks_last(x.double(), competitors, dim)
    uniform = torch.distributions.Categorical(logits=torch.zeros_like(h))
    return torch.distributions.kl_divergence(torch.distributions.Categorical(logits=h), uniform).mean()


def _exact(x: torch.Tensor, competitors: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.detach().cpu().double().requires_grad_()
    value = _definition(leaf, competitors, dim)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize(("case", "dtype", "path"), rotated(CASES, KERNEL_DTYPES, KERNELS), ids=label)
def test_kernel(case: Case, dtype: torch.dtype, path: str, device: torch.device) -> None:
    x = case.responses(dtype, device)
    value = launch_forward(x, case.competitors, case.dim)
    grad = launch_backward(torch.tensor(3.0, device=device), x, case.competitors, case.dim)
    assert value.dtype == torch.float32
    assert grad.shape == x.shape
    if not x.numel():
        assert value == 0
        return
    expected, expected_grad = _exact(x, case.competitors, case.dim)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    tolerance = (torch.finfo(dtype).eps + 8 * FLOAT32_EPS) * 3 * expected_grad.abs().max()
    assert (grad.cpu().double() - 3 * expected_grad).abs().max() <= tolerance


@pytest.mark.parametrize("case", CASES, ids=label)
def test_eager(case: Case) -> None:
    x = case.responses(torch.float64).requires_grad_()
    value = kl_to_uniform(x, case.competitors, case.dim)
    value.backward()
    assert x.grad is not None
    if not x.numel():
        assert value == 0
        return
    expected, expected_grad = _exact(x, case.competitors, case.dim)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-15)
    assert torch.allclose(x.grad, expected_grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("path", [*KERNELS, "eager"])
def test_certain_winner_costs_log_u(path: str, device: torch.device) -> None:
    x = torch.tensor([[-math.inf, 4.0, -math.inf], [0.0, 500.0, -500.0]], device=device)
    value = launch_forward(x, 3, 1) if path in KERNELS else kl_to_uniform(x, 3, 1)
    assert value.item() == pytest.approx(math.log(3), rel=1e-6)


@pytest.mark.parametrize("path", [*KERNELS, "eager"])
def test_a_response_of_minus_infinity_has_a_gradient_of_0_and_harms_no_neighbour(
    path: str, device: torch.device
) -> None:
    x = torch.randn(2, 8, 3, 3, device=device if path in KERNELS else "cpu")
    run = launch_backward if path in KERNELS else kl_to_uniform_backward
    x[:, ::4] = -1e4  # of no weight, like −inf, but finite
    finite = run(torch.ones((), device=x.device), x, 4, 1)
    x[:, ::4] = -math.inf
    masked = run(torch.ones((), device=x.device), x, 4, 1)
    torch.testing.assert_close(masked, finite)
    assert (masked[:, ::4] == 0).all()


@pytest.mark.parametrize("path", [*KERNELS, "eager"])
def test_nan_is_not_hidden(path: str, device: torch.device) -> None:
    x = torch.tensor([[1.0, math.nan], [0.0, 1.0]], device=device)
    assert (launch_forward(x, 2, 1) if path in KERNELS else kl_to_uniform(x, 2, 1)).isnan()


def test_half_precision_gives_float32() -> None:
    assert kl_to_uniform(torch.randn(3, 8, dtype=torch.bfloat16), 4, 1).dtype == torch.float32
