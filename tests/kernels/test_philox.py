"""Random bits and the law of the noise made of them."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from scipy import stats

from lwta.kernels import eager
from lwta.kernels.triton_parts import philox
from ptx import Options
from tests.support.definitions import philox_numpy
from tests.support.kernel_cases import KERNELS, place_of, running

FALSE_ALARM = 1e-6  # probability with which each statistical test here fails although all is well


@triton.jit
def _bits_kernel(out_ptr, seed_ptr, N: tl.constexpr):
    counter = tl.arange(0, N)[:, None] + tl.zeros((1, 1), tl.int32)
    bits = philox.quad_bits(tl.load(seed_ptr), counter)
    tl.store(out_ptr + tl.arange(0, N)[:, None] * 4 + tl.arange(0, 4)[None, :], bits.to(tl.int64))


@triton.jit
def _gumbel_kernel(bits_ptr, out_ptr, N: tl.constexpr, FAST: tl.constexpr):
    index = tl.arange(0, N)
    tl.store(out_ptr + index, philox.gumbel(tl.load(bits_ptr + index).to(tl.uint32), FAST))


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        (7, [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
        (10, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ],
)
def test_known_answers_of_random123(rounds: int, expected: list[int]) -> None:
    assert eager.competition.philox(torch.tensor(0), torch.tensor(0), rounds).tolist() == expected
    assert philox_numpy(0, np.zeros(1), rounds)[0].tolist() == expected


@pytest.mark.parametrize("seed", [0, 1, -1, 2**62 + 12345])
def test_three_implementations_agree_bit_for_bit(seed: int, device: torch.device) -> None:
    counters = torch.arange(64)
    expected = philox_numpy(seed, counters.numpy()).astype(np.int64)
    assert (eager.competition.philox(torch.tensor(seed), counters).numpy() == expected).all()
    out = torch.empty(64, 4, dtype=torch.int64, device=device)
    _bits_kernel[(1,)](out, torch.tensor(seed, device=device), N=64)
    assert (out.cpu().numpy() == expected).all()


def test_counters_beyond_32_bits() -> None:
    counters = np.array([2**32 - 1, 2**32, 2**40 + 7], dtype=np.uint64)
    bits = eager.competition.philox(torch.tensor(5), torch.from_numpy(counters.astype(np.int64)))
    assert (bits.numpy() == philox_numpy(5, counters)).all()


def _exact_gumbel(bits: torch.Tensor) -> torch.Tensor:
    v = bits.double() * 2.0**-32 + 2.0**-33
    return -torch.log(-torch.log1p(-v))


def _tail_bits() -> torch.Tensor:
    """Numbers from the winning tail (small), the middle, and the losing tail, 4,096 in all."""
    small = torch.arange(1024)
    middle = torch.linspace(1024, 2**32 - 2**20, 3072, dtype=torch.float64).long()
    return torch.cat((small, middle))


def test_exact_noise_is_as_good_as_log1p(device: torch.device) -> None:
    bits = _tail_bits()
    out = torch.empty(bits.numel(), device=device)
    _gumbel_kernel[(1,)](bits.to(device), out, N=bits.numel(), FAST=False)
    exact = _exact_gumbel(bits)
    eager = -torch.log(-torch.log1p(-(bits.float() * 2.0**-32 + 2.0**-33)))
    bound = 2 * (eager.double() - exact).abs().max()
    assert (out.cpu().double() - exact).abs().max() <= bound


def test_fast_noise_survives_the_coarsest_logarithm() -> None:
    """Relative to the exponential variable the error stays below 2·10⁻⁵, down to the last of 2³² numbers.

    Without a GPU the logarithm is as wrong as NVIDIA documents that it may be.
    """
    place = place_of(KERNELS[-1])
    bits = _tail_bits()
    with running(KERNELS[-1], Options(approximate=True)):
        out = torch.empty(bits.numel(), device=place)
        _gumbel_kernel[(1,)](bits.to(place), out, N=bits.numel(), FAST=True)
    shift = np.log(np.log(2.0))
    assert (out.cpu().double() - shift - _exact_gumbel(bits)).abs().max() < 2e-5


def test_noise_is_gumbel() -> None:
    g = eager.competition.gumbel(torch.tensor(3), 1000, 1000).flatten().double().numpy()
    assert stats.kstest(g, stats.gumbel_r.cdf).pvalue > FALSE_ALARM
    for threshold in (5.0, 8.0, 11.0):  # the winning tail
        expected = stats.gumbel_r.sf(threshold)
        assert stats.binomtest(int((g > threshold).sum()), g.size, expected).pvalue > FALSE_ALARM


def test_lanes_and_rows_are_independent() -> None:
    g = eager.competition.gumbel(torch.tensor(4), 200_000, 8).double()
    correlation = torch.corrcoef(g.T) - torch.eye(8)
    limit = stats.norm.isf(FALSE_ALARM / 2 / 28) / np.sqrt(g.shape[0])
    assert correlation.abs().max() < limit


def test_rule_pads_rows_to_groups_of_four() -> None:
    narrow = eager.competition.gumbel(torch.tensor(9), 3, 6)
    wide = eager.competition.gumbel(torch.tensor(9), 3, 8)
    assert torch.equal(narrow, wide[:, :6])
