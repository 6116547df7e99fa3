"""Dense competition: the kernel and the eager path against float64 definitions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from lwta.kernels import eager, lwta
from lwta.kernels.operations.lwta import launch_backward, launch_forward, lwta_backward
from tests.support.definitions import FLOAT32_EPS, margins, scores, straight_through
from tests.support.kernel_cases import CASES, DTYPES, KERNEL_DTYPES, KERNELS, Case, label, runs_in
from tests.support.pairwise import examples, pairwise

SEED = 2**40 + 17
MODES = ("sample", "argmax", "relaxed")


def _rounding(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


def _seed_tensor(device: torch.device) -> torch.Tensor:
    return torch.tensor(SEED, device=device)


def _clear(x: torch.Tensor, competitors: int, mode: str, dim: int) -> torch.Tensor:
    """Mask, in the shape of x, of units in blocks whose winner rounding cannot change."""
    if x.numel() == 0:
        return torch.zeros(x.shape, dtype=torch.bool)
    margin = margins(scores(x, competitors, dim, None if mode == "argmax" else SEED))
    clear = (margin > 1e-5) | (margin == 0) if mode == "argmax" else margin > 1e-5
    clear = clear[..., None].expand(*clear.shape, competitors)
    return clear.reshape(x.movedim(dim, -1).shape).movedim(-1, dim)


def _check_output(y: torch.Tensor, x: torch.Tensor, competitors: int, mode: str, dim: int, tau: float) -> None:
    expected = straight_through(x.cpu(), competitors, mode, tau, dim, None if mode == "argmax" else SEED)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    if mode == "relaxed":
        tolerance = 2 * _rounding(x.dtype) + 64 * FLOAT32_EPS
        assert ((y.cpu().double() - expected).abs() <= tolerance * (x.abs().max().item() if x.numel() else 0)).all()
    else:
        clear = _clear(x, competitors, mode, dim)
        assert torch.equal(y.cpu().double()[clear], expected[clear])
        active = (y.movedim(dim, -1).unflatten(-1, (-1, competitors)) != 0).sum(-1)
        assert (active <= 1).all()


def _compiled(*arguments: Any) -> torch.Tensor:
    return lwta(*arguments, compiled=True)


def _compiled_backward(*arguments: Any) -> torch.Tensor:
    return lwta_backward(*arguments, compiled=True)


FORWARD: dict[str, Callable[..., torch.Tensor]] = {
    **dict.fromkeys(KERNELS, launch_forward),
    "eager": lwta,
    "compiled": _compiled,
}
BACKWARD: dict[str, Callable[..., torch.Tensor]] = {
    **dict.fromkeys(KERNELS, launch_backward),
    "eager": lwta_backward,
    "compiled": _compiled_backward,
}
PATHS = list(FORWARD)
ROWS = pairwise(CASES, MODES, DTYPES, PATHS, allowed=lambda case, mode, dtype, path: runs_in(path, dtype))


def _device(path: str, device: torch.device) -> torch.device:
    """Where a path is run: the kernels alone on the GPU."""
    return device if path in KERNELS else torch.device("cpu")


@pytest.mark.parametrize(("case", "mode", "dtype", "path"), ROWS, ids=label)
def test_output(case: Case, mode: str, dtype: torch.dtype, path: str, device: torch.device) -> None:
    x = case.responses(dtype, _device(path, device))
    y = FORWARD[path](x, case.competitors, mode, 0.67, case.dim, _seed_tensor(x.device))
    _check_output(y, x, case.competitors, mode, case.dim, 0.67)


def _gradients(
    x: torch.Tensor, grad: torch.Tensor, competitors: int, mode: str, dim: int, tau: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of the float64 definition, and its error in eager PyTorch in the type of x."""
    exact = x.detach().cpu().double().requires_grad_()
    seed = None if mode == "argmax" else SEED
    (straight_through(exact, competitors, mode, tau, dim, seed) * grad.cpu().double()).sum().backward()
    assert exact.grad is not None
    float32 = eager.competition.lwta_backward(grad.cpu(), x.cpu(), competitors, mode, tau, dim, torch.tensor(SEED))
    return exact.grad, (float32.double() - exact.grad).abs()


def _check_gradient(
    out: torch.Tensor,
    grad: torch.Tensor,
    x: torch.Tensor,
    competitors: int,
    mode: str,
    dim: int,
    tau: float,
    fast: bool = False,
) -> None:
    """Against the definition; ``fast`` noise, that of the kernels, is off by 10⁻⁴ at most."""
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    if not x.numel():
        return
    exact, eager_error = _gradients(x, grad, competitors, mode, dim, tau)
    clear = _clear(x, competitors, mode, dim)
    error = (out.cpu().double() - exact)[clear].norm()
    fast_noise = 1e-4 if fast and mode != "argmax" else 0.0
    # of both exp2, good to two units in the last place, and its argument
    exp2_rounding = 4 * FLOAT32_EPS / min(tau, 1.0)
    assert error <= 2 * eager_error[clear].norm() + (exp2_rounding + fast_noise) * exact.norm()


@pytest.mark.parametrize(("case", "mode", "dtype", "path"), ROWS, ids=label)
def test_gradient(case: Case, mode: str, dtype: torch.dtype, path: str, device: torch.device) -> None:
    x = case.responses(dtype, _device(path, device)).requires_grad_(path not in KERNELS)
    grad = torch.randn(case.shape).to(x)
    arguments = case.competitors, mode, 0.67, case.dim, _seed_tensor(x.device)
    if path in KERNELS:
        out = launch_backward(grad, x, *arguments)
    else:
        (out,) = torch.autograd.grad(FORWARD[path](x, *arguments), x, grad)
    _check_gradient(out, grad, x.detach(), case.competitors, mode, case.dim, 0.67, path in KERNELS)


def test_gradient_equals_the_formula() -> None:
    """∂L/∂h_u = G_u·ξ_u + (s_u/τ)·(G_u·h_u − Σ_v s_v·G_v·h_v), summed term by term for one block."""
    tau, U = 0.5, 3
    x = torch.tensor([[0.3, -1.2, 0.8]], dtype=torch.float64)
    G = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    z = scores(x, U, 1, SEED)[0, 0]
    s = torch.softmax(z / tau, 0)
    winner = int(z.argmax())
    expected = []
    for u in range(U):
        pull = G[0, u] * x[0, u] - sum(s[v] * G[0, v] * x[0, v] for v in range(U))
        expected.append(float(G[0, u] * (u == winner) + s[u] / tau * pull))
    x.requires_grad_()
    y = lwta(x, U, "sample", tau, 1, torch.tensor(SEED))
    y.backward(G)
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_relaxed_passes_gradcheck() -> None:
    x = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    seed = torch.tensor(SEED)
    for competitors in (2, 3, 12):
        assert torch.autograd.gradcheck(lambda t, U=competitors: lwta(t, U, "relaxed", 0.8, 1, seed), (x,))


@pytest.mark.slow
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outer=st.integers(1, 5),
    blocks=st.integers(1, 9),
    competitors=st.sampled_from([1, 5, 6, 7]),
    inner=st.sampled_from([1, 5]),
    temperature=st.floats(0.1, 5.0),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(KERNEL_DTYPES),
)
def test_kernel_on_any_shape(
    outer: int,
    blocks: int,
    competitors: int,
    inner: int,
    temperature: float,
    mode: str,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    x, grad = torch.randn(2, outer, blocks * competitors, inner).to(device, dtype)
    y = launch_forward(x, competitors, mode, temperature, 1, _seed_tensor(device))
    _check_output(y, x, competitors, mode, 1, temperature)
    out = launch_backward(grad, x, competitors, mode, temperature, 1, _seed_tensor(device))
    _check_gradient(out, grad, x, competitors, mode, 1, temperature, True)


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_noise_does_not_depend_on_memory_layout(memory: str, device: torch.device) -> None:
    x = torch.randn(2, 24, 3, 5, device=device)
    moved = x.movedim(1, -1).contiguous()
    seed = _seed_tensor(device)
    y = launch_forward(make_layout(x, memory), 12, "sample", 1.0, 1, seed)
    assert torch.equal(y.movedim(1, -1), launch_forward(moved, 12, "sample", 1.0, 3, seed))


def make_layout(x: torch.Tensor, memory: str) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last) if memory == "channels_last" else x


RUNS = [pytest.param(run, id=path) for path, run in FORWARD.items()]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("mode", MODES)
def test_nan_poisons_its_block_only(run: Callable[..., torch.Tensor], mode: str, device: torch.device) -> None:
    x = torch.randn(2, 8, device=device)
    x[0, 5] = math.nan
    y = run(x, 4, mode, 1.0, 1, _seed_tensor(device))
    assert y[0, 4:].isnan().all()
    assert not y[0, :4].isnan().any()
    assert not y[1].isnan().any()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("mode", ["sample", "argmax"])
def test_infinities_win_and_lose(run: Callable[..., torch.Tensor], mode: str, device: torch.device) -> None:
    inf = math.inf
    x = torch.tensor([[0.0, inf, -1.0], [-inf, 2.0, -inf], [-inf, -inf, -inf]], device=device)
    y = run(x, 3, mode, 1.0, 1, _seed_tensor(device))
    assert y.tolist() == [[0.0, inf, 0.0], [0.0, 2.0, 0.0], [-inf, 0.0, 0.0]]


BACKWARD_RUNS = [pytest.param(run, id=path) for path, run in BACKWARD.items()]
MASKED_CASES = [
    Case("U3", (4, 6), 1, 3, "contiguous"),
    Case("U2", (4, 8), 1, 2, "contiguous"),
    Case("U12", (3, 24), 1, 12, "contiguous"),
    Case("nchw-U3", (2, 6, 3, 3), 1, 3, "contiguous"),
]


@pytest.mark.parametrize(
    ("case", "mode", "dtype", "path"),
    pairwise(MASKED_CASES, MODES, DTYPES, PATHS, allowed=lambda case, mode, dtype, path: runs_in(path, dtype)),
    ids=label,
)
def test_a_response_of_minus_infinity_passes_no_gradient_and_harms_no_neighbour(
    case: Case, mode: str, dtype: torch.dtype, path: str, device: torch.device
) -> None:
    x, grad = torch.randn(2, *case.shape).to(_device(path, device), dtype)
    last = x.movedim(case.dim, -1)
    last[..., 1] = -1e4  # of no weight, like −inf, but finite
    arguments = case.competitors, mode, 0.67, case.dim, _seed_tensor(x.device)
    finite = BACKWARD[path](grad, x, *arguments)
    last[..., 1] = -math.inf
    grad.movedim(case.dim, -1)[0, ..., 1] = 0
    masked = BACKWARD[path](grad, x, *arguments)
    torch.testing.assert_close(masked, finite)
    assert (masked.movedim(case.dim, -1)[..., 1] == 0).all()


@pytest.mark.parametrize("run", RUNS)
def test_a_response_of_minus_infinity_is_0_in_the_relaxation(
    run: Callable[..., torch.Tensor], device: torch.device
) -> None:
    x = torch.tensor([[-math.inf, 0.0, 1.0], [-math.inf, -math.inf, 2.0]], device=device)
    y = run(x, 3, "relaxed", 1.0, 1, _seed_tensor(device))
    assert y.isfinite().all()
    assert (y[x == -math.inf] == 0).all()
    assert y[1, 2] == 2


@pytest.mark.parametrize("run", BACKWARD_RUNS)
@pytest.mark.parametrize("mode", MODES)
def test_a_block_of_minus_infinity_alone_has_no_gradient_to_give(
    run: Callable[..., torch.Tensor], mode: str, device: torch.device
) -> None:
    x = torch.randn(2, 6, device=device)
    x[0, :3] = -math.inf
    gradient = run(torch.ones_like(x), x, 3, mode, 1.0, 1, _seed_tensor(device))
    assert gradient[0, :3].isnan().all()
    assert gradient[0, 3:].isfinite().all()
    assert gradient[1].isfinite().all()


@pytest.mark.parametrize("run", RUNS)
def test_ties_go_to_the_lower_index(run: Callable[..., torch.Tensor], device: torch.device) -> None:
    y = run(torch.full((1, 8), 3.0, device=device), 4, "argmax", 1.0, 1, None)
    assert y.tolist() == [[3.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("competitors", [2, 3, 8, 12, 24])
def test_winners_follow_the_softmax(competitors: int) -> None:
    """Chi-square of 200,000 draws against softmax(h), at any temperature; false alarm 10⁻⁶."""
    h = torch.linspace(-2, 2, competitors)
    x = h.expand(200_000, competitors)
    y = lwta(x, competitors, "sample", 0.1, 1, torch.tensor(SEED))
    winner = eager.competition.winners(x, competitors, "sample", 1, torch.tensor(SEED))[1].long()
    counts = torch.bincount(winner.flatten(), minlength=competitors)
    assert stats.chisquare(counts.numpy(), (torch.softmax(h.double(), 0) * len(x)).numpy()).pvalue > 1e-6
    assert torch.equal(y, torch.zeros_like(x).scatter_(1, winner, x.gather(1, winner)))


@pytest.mark.gpu
def test_cpu_and_gpu_draw_the_same_winners() -> None:
    x = torch.randn(64, 96)
    on_cpu = lwta(x, 8, "sample", 1.0, 1, torch.tensor(SEED))
    on_gpu = lwta(x.cuda(), 8, "sample", 1.0, 1, torch.tensor(SEED).cuda()).cpu()
    clear = margins(scores(x, 8, 1, SEED)).gt(1e-3).repeat_interleave(8, dim=-1).view(x.shape)
    assert torch.equal(on_cpu[clear], on_gpu[clear])
