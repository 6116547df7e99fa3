"""Fast mathematics: logarithm, exponential and conversion in one instruction each, where the hardware has it.

`tl.log2` compiles to a polynomial of some 25 instructions and `tl.exp2` to four that keep subnormal results; NVIDIA's
special-function unit needs one. The interpreter and AMD have no PTX: there, callers pass FAST=False.
"""

import triton
import triton.language as tl


@triton.jit
def log2_approx(x):
    """Return log2 of positive float32, with an absolute error of 2⁻²² near 1; subnormal numbers count as 0."""
    return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def float_below(bits):
    """Return the largest float32 at or below a uint32: never 2³², to which rounding to the nearest may lead."""
    return tl.inline_asm_elementwise("cvt.rz.f32.u32 $0, $1;", "=f,r", [bits], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def exp2(x, FAST: tl.constexpr):
    """Return 2ˣ to two units in the last place; the fast form returns 0 for subnormal results."""
    if FAST:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)
