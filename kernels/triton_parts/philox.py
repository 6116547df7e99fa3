"""Noise of the competition: counter-based, so that nothing random is ever stored.

Unit k of row r takes lane k mod 4 of Philox-4x32-7 at counter r·⌈K/4⌉ + ⌊k/4⌋ (`competition.gumbel`). The 32-bit number
gives v on (0, 1), an exponential variable E = −log(1 − v), and −log E, which is Gumbel. Where v is small the unit is
about to win, and 1 − v rounds that tail away; two remedies:

    exact    w = fl(1 − v), E = −log w + (v − (1 − w)): the rounding of w put back, as log1p does
    fast     v < 2⁻⁵: E = v + v²/2 + v³/3, to 10⁻⁵; else −log w

The fast form is for NVIDIA, where lg2.approx takes one instruction in place of the 25 of `tl.log2`, with an absolute
error of 2⁻²² near w = 1.
"""

import triton
import triton.language as tl

from lwta.kernels.triton_parts import fastmath

ROUNDS = tl.constexpr(7)
LN2 = tl.constexpr(0.6931471805599453)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def gumbel(bits, FAST: tl.constexpr):
    """Return Gumbel(0, 1) noise, float32, from random uint32; the fast form is shifted by the constant log(log 2)."""
    if FAST:
        v = fastmath.float_below(bits) * 2.0**-32 + 2.0**-33  # at most 1 − 2⁻²⁴
        # E in units of log 2: one multiplication less, and no block sees the shift.
        tail = v * (v * (v * (LOG2E / 3) + LOG2E / 2) + LOG2E)
        return fastmath.log2_approx(tl.where(v < 2.0**-5, tail, -fastmath.log2_approx(1.0 - v))) * -LN2
    else:
        v = tl.minimum(bits.to(tl.float32) * 2.0**-32 + 2.0**-33, 1 - 2.0**-24)
        w = 1.0 - v
        return -tl.log((v - (1.0 - w)) - tl.log(w))


@triton.jit
def quad_bits(seed, counter):
    """Return random uint32, (N, 4·M), for counters (N, M): every call of Philox serves four neighbours."""
    n0, n1, n2, n3 = tl.randint4x(seed, counter, n_rounds=ROUNDS)
    lanes = tl.join(tl.join(n0, n2), tl.join(n1, n3))  # [..., i, j] is lane 2i + j
    return tl.reshape(lanes, (counter.shape[0], 4 * counter.shape[1]))


@triton.jit
def single_bits(seed, counter, lane):
    """Return random uint32 of the shape of ``counter`` and ``lane``: one of the four numbers of each call of Philox."""
    n0, n1, n2, n3 = tl.randint4x(seed, counter, n_rounds=ROUNDS)
    return tl.where(lane < 2, tl.where(lane == 0, n0, n1), tl.where(lane == 2, n2, n3))
