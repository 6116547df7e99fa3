"""Single instructions against Python's integers and fractions."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from ptx import Options, PtxError
from tests.support.assembly import compute

INTEGERS = np.array(
    [0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF],
    np.uint32,
)
A, B = (x.ravel() for x in np.meshgrid(INTEGERS, INTEGERS))  # 256 pairs
FLOATS = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.5, 3.0, 1e-3, 1e-39, -1e-45, 3e38, -3e38, math.inf, -math.inf, math.nan, 2.0**-126, 0.1],
    np.float32,
)
X, Y = (x.ravel() for x in np.meshgrid(FLOATS, FLOATS))


def signed(x: int, bits: int = 32) -> int:
    """The same bits as a signed number."""
    return x - 2**bits if x >= 2 ** (bits - 1) else x


def cut(a: int, b: int) -> int:
    """Quotient cut off toward zero."""
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


INTEGER_CASES: dict[str, Callable[[int, int], int]] = {
    "add.s32": lambda a, b: a + b,
    "sub.s32": lambda a, b: a - b,
    "mul.lo.s32": lambda a, b: a * b,
    "mul.hi.u32": lambda a, b: a * b >> 32,
    "mul.hi.s32": lambda a, b: signed(a) * signed(b) >> 32,
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
    "min.u32": min,
    "max.u32": max,
    "min.s32": lambda a, b: min(signed(a), signed(b)),
    "max.s32": lambda a, b: max(signed(a), signed(b)),
    "shl.b32": lambda a, b: a << b if b < 32 else 0,
    "shr.u32": lambda a, b: a >> b if b < 32 else 0,
    "shr.s32": lambda a, b: signed(a) >> min(b, 31),
}


@pytest.mark.parametrize("name", INTEGER_CASES)
def test_integers(name: str) -> None:
    got = compute(f"{name} %y, %a, %b;", "u4", A, B)
    expected = [INTEGER_CASES[name](int(a), int(b)) & 0xFFFFFFFF for a, b in zip(A, B, strict=True)]
    assert got.tolist() == expected


@pytest.mark.parametrize("name", ["div.s32", "rem.s32", "div.u32", "rem.u32"])
def test_quotients(name: str) -> None:
    a, b = A[B != 0][: 32 * 7], B[B != 0][: 32 * 7]
    got = compute(f"{name} %y, %a, %b;", "u4", a, b)
    for x, y, result in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        if name.endswith("s32"):
            x, y = signed(x), signed(y)
        q = cut(x, y)
        assert result == (q if name.startswith("div") else x - q * y) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("mul.wide.u32 %y, %a, %b;", lambda a, b: a * b),
        ("mul.wide.s32 %y, %a, %b;", lambda a, b: signed(a) * signed(b)),
        ("mad.wide.s32 %y, %a, %b, 5;", lambda a, b: signed(a) * signed(b) + 5),
        ("cvt.u64.u32 %y, %a;", lambda a, b: a),
        ("cvt.s64.s32 %y, %a;", lambda a, b: signed(a)),
        ("mov.b64 %y, {%a, %b};", lambda a, b: a | b << 32),
    ],
)
def test_wide_results(text: str, function: Callable[[int, int], int]) -> None:
    got = compute(text, "u8", A, B)
    assert got.tolist() == [function(int(a), int(b)) % 2**64 for a, b in zip(A, B, strict=True)]


def field(x: int, start: int, length: int, bits: int, sign: bool) -> int:
    """Bits of a number by the pseudocode of the PTX ISA for `bfe`."""
    top = bits - 1
    position, length = start & 255, length & 255
    filler = 0 if not sign or length == 0 else x >> min(position + length - 1, top) & 1
    out = 0
    for i in range(bits):
        inside = i < length and position + i <= top
        out |= (x >> (position + i) & 1 if inside else filler) << i
    return out


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_bit_fields(kind: str) -> None:
    bits = int(kind[1:])
    generator = np.random.default_rng(0)
    x = generator.integers(0, 2**64, 512, dtype=np.uint64).astype(f"u{bits // 8}")
    start, length = (generator.choice([0, 1, 5, 31, 32, 33, 40, 63, 64, 255, 257], 512).astype("u4") for _ in "ab")
    got = compute(f"bfe.{kind} %y, %a, %b, %c;", f"u{bits // 8}", x, start, length)
    terms = zip(x.tolist(), start.tolist(), length.tolist(), strict=True)
    assert got.tolist() == [field(a, b, c, bits, kind[0] == "s") for a, b, c in terms]


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("bfe.u32 %y, %a, 3, 7;", lambda a, b: a >> 3 & 127),
        ("bfe.s32 %y, %a, 3, 7;", lambda a, b: signed(a >> 3 & 127, 7)),
        ("prmt.b32 %y, %a, %b, 0x5410;", lambda a, b: a & 0xFFFF | (b & 0xFFFF) << 16),
        ("prmt.b32 %y, %a, %b, 0x7632;", lambda a, b: a >> 16 | b >> 16 << 16),
        ("prmt.b32 %y, %a, %b, 0x8880;", lambda a, b: a & 255 | (0xFFFFFF00 if a & 128 else 0)),
        ("shf.l.wrap.b32 %y, %a, %b, 37;", lambda a, b: ((b << 32 | a) << 5) >> 32),
        ("shf.r.wrap.b32 %y, %a, %b, 37;", lambda a, b: (b << 32 | a) >> 5),
        ("not.b32 %y, %a;", lambda a, b: ~a),
        ("neg.s32 %y, %a;", lambda a, b: -a),
        ("setp.lt.s32 %p, %a, %b; selp.b32 %y, 7, 9, %p;", lambda a, b: 7 if signed(a) < signed(b) else 9),
        ("setp.lt.u32 %p, %a, %b; selp.b32 %y, %a, %b, %p;", min),
        ("setp.ge.u32 %p, %a, %b; mov.b32 %y, 1; @%p mov.b32 %y, 2; @!%p add.s32 %y, %y, 4;",
         lambda a, b: 2 if a >= b else 5),
        ("cvt.u16.u32 %h, %a; cvt.u32.u16 %y, %h;", lambda a, b: a & 0xFFFF),
        ("{ .reg .b16 lo, hi; mov.b32 {lo, hi}, %a; mov.b32 %y, {hi, lo}; }",
         lambda a, b: a >> 16 | (a & 0xFFFF) << 16),
    ],
)  # fmt: skip
def test_bits_and_choices(text: str, function: Callable[[int, int], int]) -> None:
    got = compute(text, "u4", A, B)
    assert got.tolist() == [function(int(a), int(b)) & 0xFFFFFFFF for a, b in zip(A, B, strict=True)]


def same(got: float, expected: float) -> bool:
    """Equality to the sign of zero, with NaN equal to NaN."""
    if math.isnan(expected):
        return math.isnan(got)
    return struct.pack("f", got) == struct.pack("f", expected)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("add.f32 %y, %a, %b;", lambda a, b: a + b),
        ("sub.rn.f32 %y, %a, %b;", lambda a, b: a - b),
        ("mul.f32 %y, %a, %b;", lambda a, b: a * b),
        ("neg.f32 %y, %a;", lambda a, b: -a),
        ("abs.f32 %y, %a;", lambda a, b: a.abs()),
        ("cvt.rn.bf16.f32 %h, %a; cvt.f32.bf16 %y, %h;", lambda a, b: a.bfloat16().float()),
        ("{ .reg .b32 pair; cvt.rn.bf16x2.f32 pair, %b, %a; mov.b32 {%h, %g}, pair; cvt.f32.bf16 %y, %g; }",
         lambda a, b: b.bfloat16().float()),
        ("{ .reg .b32 pair; cvt.rn.f16x2.f32 pair, %b, %a; mov.b32 {%h, %g}, pair; cvt.f32.f16 %y, %h; }",
         lambda a, b: a.half().float()),
    ],
)  # fmt: skip
def test_floats(text: str, function: Callable[[Any, Any], Any]) -> None:
    got = compute(text, "f4", X, Y)
    expected = function(torch.from_numpy(X), torch.from_numpy(Y)).tolist()
    wrong = [
        (float(a), float(b), g, e) for a, b, g, e in zip(X, Y, got.tolist(), expected, strict=True) if not same(g, e)
    ]
    assert not wrong


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


@pytest.mark.parametrize("name", [*COMPARISONS, *(f"{name}u" for name in COMPARISONS), "num", "nan"])
def test_comparisons_of_floats(name: str) -> None:
    """NaN makes those of two letters false, and those that end in u true."""
    got = compute(f"setp.{name}.f32 %p, %a, %b; selp.b32 %y, 1, 0, %p;", "u4", X, Y)
    for a, b, result in zip(X.tolist(), Y.tolist(), got.tolist(), strict=True):
        some_nan = math.isnan(a) or math.isnan(b)
        if name in ("num", "nan"):
            assert result == (some_nan == (name == "nan"))
        elif some_nan:
            assert result == (len(name) == 3)
        else:
            assert result == COMPARISONS[name[:2]](a, b)


def extremum(a: float, b: float, largest: bool, spreads: bool) -> float:
    """Larger or smaller number, by the PTX ISA: −0 is less than +0; NaN counts only if it spreads, or is both."""
    known = [x for x in (a, b) if not math.isnan(x)]
    if len(known) < 2:
        return math.nan if spreads or not known else known[0]
    return (max if largest else min)(known, key=lambda x: (x, math.copysign(1, x)))


@pytest.mark.parametrize("spreads", [False, True])
@pytest.mark.parametrize("name", ["min", "max"])
@pytest.mark.parametrize("kind", ["f32", "bf16x2", "f16x2"])
def test_extrema_of_floats(kind: str, name: str, spreads: bool) -> None:
    operation = f"{name}{'.NaN' * spreads}.{kind}"
    dtype = {"f32": torch.float32, "bf16x2": torch.bfloat16, "f16x2": torch.float16}[kind]
    x, y = (torch.from_numpy(z).to(dtype) for z in (X, Y))
    if kind == "f32":
        got = compute(f"{operation} %y, %a, %b;", "f4", X, Y).tolist()
    else:
        text = f"{operation} %y, %a, %b;"
        pairs = compute(text, "u4", *(z.repeat_interleave(2).view(torch.uint32).numpy() for z in (x, y)))
        assert (pairs >> 16 == pairs & 0xFFFF).all()
        got = torch.from_numpy(pairs).view(dtype)[::2].tolist()
    expected = [extremum(a, b, name == "max", spreads) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert [(g, e) for g, e in zip(got, expected, strict=True) if not same(g, e)] == []


def test_the_nan_that_instructions_give() -> None:
    nan = np.full(32, 0xFFC12345, np.uint32)
    assert set(compute("max.f32 %y, %a, %a;", "u4", nan).tolist()) == {0x7FFFFFFF}
    assert set(compute("cvt.rna.tf32.f32 %y, %a;", "u4", nan).tolist()) == {0x7FFFFFFF}
    for kind in ("f16", "bf16"):
        assert set(compute(f"cvt.rn.{kind}.f32 %h, %a; cvt.u32.u16 %y, %h;", "u4", nan).tolist()) == {0x7FFF}
    assert set(compute("cvt.rzi.s32.f32 %y, %a;", "u4", nan).tolist()) == {0}
    assert set(compute("cvt.rzi.s64.f32 %y, %a;", "u8", nan).tolist()) == {1 << 63}


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64", "s16"])
def test_floats_as_integers_are_cut_off_and_stay_in_the_range(kind: str) -> None:
    x = np.array(
        [0.9, -0.9, 1.5, -1.5, 3e4, -4e4, 7e4, 3e9, -3e9, 5e9, 1e18, 1e19, 2e19, -1e19, math.inf, -math.inf] * 2
    )
    x = x.astype(np.float32)
    bits, signs = int(kind[1:]), kind[0] == "s"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signs else (0, 2**bits - 1)
    got = compute(f"{{ .reg .b{bits} r; cvt.rzi.{kind}.f32 r, %a; cvt.{kind[0]}64.{kind} %y, r; }}", "i8", x)
    exact = [
        high if v == math.inf else low if v == -math.inf else min(max(math.trunc(v), low), high) for v in x.tolist()
    ]
    assert [v % 2**64 for v in got.tolist()] == [v % 2**64 for v in exact]


FORMATS = {"f32": (24, -149), "f16": (11, -24), "bf16": (8, -133)}
"""Bits of a number, and the exponent of the smallest one."""


def nearest(x: Fraction, kind: str = "f32") -> float:
    """Number of a format nearest to a fraction, ties to even, by Python's exact integers."""
    if x == 0:
        return 0.0
    bits, smallest = FORMATS[kind]
    exponent = max(math.floor(math.log2(abs(x))) - bits - 1, smallest)
    while abs(x) >= Fraction(2) ** (exponent + bits):
        exponent += 1
    while exponent > smallest and abs(x) < Fraction(2) ** (exponent + bits - 1):
        exponent -= 1
    return float(round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent)  # round() ties to even


def test_fused_multiply_add_rounds_once() -> None:
    generator = np.random.default_rng(0)
    a, b, c = (generator.standard_normal(4096).astype(np.float32) for _ in range(3))
    c[::2] = -(a * b)[::2]  # what the product lost decides
    c[1::4] = (c[1::4] * np.float32(2.0**24)).astype(np.float32)  # sums near half way
    a[:64], b[:64], c[:64] = 1 + 2.0**-12, 1 + 2.0**-12, 2.0**-30 * np.arange(64)
    a[64:128], b[64:128] = (
        (1 + 2.0**-23) * 2.0**-90,
        (1 - 2.0**-23) * 2.0**-60,
    )  # just below half of the smallest number
    c[64:128] = (2**20 + np.arange(64)) * 2.0**-149
    got = compute("fma.rn.f32 %y, %a, %b, %c;", "f4", a, b, c)
    exact = [
        nearest(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)
    ]
    assert got.tolist() == exact


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_fused_multiply_add_of_sixteen_bits_rounds_once(kind: str) -> None:
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[kind]
    a, b, c = (torch.randn(1024) for _ in range(3))
    a[:64], b[:64] = 1 + 2.0**-10, (1 - 2.0**-10) * 2.0**-11  # just below half of the last bit of c, by 31 bits
    c[:64] = 1 + torch.arange(64) * 2.0**-10
    a, b, c = a.to(dtype), b.to(dtype), c.to(dtype)
    bits = compute(f"fma.rn.{kind} %y, %a, %b, %c;", "u2", *(x.view(torch.uint16).numpy() for x in (a, b, c)))
    numbers = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    expected = [nearest(Fraction(x) * Fraction(y) + Fraction(z), kind) for x, y, z in numbers]
    assert torch.from_numpy(bits).view(dtype).tolist() == expected


@pytest.mark.parametrize("number", [0, 1, 2**24 - 1, 2**24 + 1, 2**31 + 127, 2**32 - 1, 2**32 - 129])
def test_integers_toward_zero(number: int) -> None:
    (got, *_) = compute("cvt.rz.f32.u32 %y, %a;", "f4", np.full(32, number, np.uint32))
    assert got <= number < 2 * float(got) + 1
    assert float(np.nextafter(got, np.float32(np.inf))) > number


def test_subnormal_numbers_count_as_zero_where_the_instruction_says_so() -> None:
    tiny = np.full(32, 1e-39, np.float32)
    assert compute("lg2.approx.ftz.f32 %y, %a;", "f4", tiny)[0] == -math.inf
    assert compute("lg2.approx.f32 %y, %a;", "f4", tiny)[0] == pytest.approx(math.log2(float(tiny[0])), rel=1e-6)
    low = np.full(32, -130.0, np.float32)
    assert compute("ex2.approx.ftz.f32 %y, %a;", "f4", low)[0] == 0
    assert compute("ex2.approx.f32 %y, %a;", "f4", low)[0] == pytest.approx(2.0**-130, rel=1e-6)


def test_approximations_are_off_by_at_most_what_is_documented_and_always_by_the_same() -> None:
    x = np.linspace(0.01, 4, 32 * 64, dtype=np.float32)
    off = [compute("lg2.approx.ftz.f32 %y, %a;", "f4", x, options=Options(approximate=True)) for _ in range(2)]
    assert (off[0] == off[1]).all()
    error = np.abs(off[0] - np.log2(x.astype(np.float64)))
    near = (x > 0.5) & (x < 2)
    assert 2.0**-24 < error[near].max() < 2.0**-21
    assert (error[~near] <= 2.0**-21 * np.maximum(np.abs(np.log2(x[~near])), 1)).all()


def test_the_error_of_a_large_logarithm_grows_with_it() -> None:
    x = np.geomspace(2.0**60, 2.0**120, 32 * 64).astype(np.float32)
    off = compute("lg2.approx.ftz.f32 %y, %a;", "f4", x, options=Options(approximate=True))
    exact = np.log2(x.astype(np.float64))
    error = np.abs(off - exact) / exact
    assert 2.0**-23 < error.max() < 2.0**-21


SPECIAL = [
    ("ex2.approx.f32", [(math.inf, math.inf), (-math.inf, 0.0), (-0.0, 1.0), (1e-40, 1.0), (128.0, math.inf)]),
    ("ex2.approx.ftz.f32", [(math.inf, math.inf), (-math.inf, 0.0), (-126.5, 0.0), (-126.0, 2.0**-126)]),
    (
        "lg2.approx.f32",
        [(math.inf, math.inf), (0.0, -math.inf), (-0.0, -math.inf), (-1.0, math.nan), (2.0**-149, -149.0)],
    ),
    ("lg2.approx.ftz.f32", [(-1e-40, -math.inf), (-1.0, math.nan)]),
    (
        "rcp.approx.ftz.f32",
        [(0.0, math.inf), (-0.0, -math.inf), (-math.inf, -0.0), (-1e-40, -math.inf), (2.0**127, 0.0)],
    ),
    ("rsqrt.approx.f32", [(0.0, math.inf), (-0.0, -math.inf), (math.inf, 0.0), (-1.0, math.nan), (4.0, 0.5)]),
    ("sqrt.rn.f32", [(-0.0, -0.0), (-1.0, math.nan), (math.inf, math.inf), (2.0, float(np.sqrt(np.float32(2))))]),
    ("sqrt.approx.f32", [(-0.0, -0.0), (-1e-40, math.nan)]),
]


@pytest.mark.parametrize(("name", "cases"), SPECIAL)
def test_special_functions_of_special_numbers(name: str, cases: list[tuple[float, float]]) -> None:
    """Tables of the PTX ISA."""
    for x, expected in [*cases, (math.nan, math.nan)]:
        assert same(compute(f"{name} %y, %a;", "f4", np.full(32, x, np.float32))[0], expected), x


@pytest.mark.parametrize(
    ("name", "a", "b", "expected"),
    [
        ("div.full.f32", 2.0**127, 2.0**127, 1.0), ("div.approx.f32", 2.0**127, 2.0**127, 0.0),
        ("div.approx.f32", math.inf, 2.0**127, math.nan), ("div.approx.f32", -1.0, 2.0**127, -0.0),
        ("div.approx.f32", 1.0, math.inf, 0.0), ("div.approx.f32", 6.0, 3.0, 2.0), ("div.rn.f32", 1.0, -0.0, -math.inf),
        ("div.full.ftz.f32", 1.0, 1e-40, math.inf), ("div.full.f32", 0.0, 0.0, math.nan),
    ],
)  # fmt: skip
def test_divisions_of_special_numbers(name: str, a: float, b: float, expected: float) -> None:
    got = compute(f"{name} %y, %a, %b;", "f4", np.full(32, a, np.float32), np.full(32, b, np.float32))
    assert same(got[0], expected)


@pytest.mark.parametrize(
    "text",
    [
        "vadd.s32 %y, %a, %b, %a;", "add.sat.s32 %y, %a, %b;", "mul.hi.u64 %y, %a, %b;", "add.s32 %y, %a;",
        "add.s32 %y, %a, %unknown;", "cvt.rp.f32.u32 %y, %a;", "setp.lt.and.s32 %p, %a, %b, %p; mov.b32 %y, 0;",
        "ld.global.nc.b32 %y, [%address];", "min.xorsign.abs.f32 %y, %a, %b;", "tanh.approx.f32 %y, %a;",
        "bar.red.popc.u32 %y, 0, %p;", "shfl.sync.bfly.b32 %y, %a, 1, 15, -1;",
    ],
)  # fmt: skip
def test_what_is_not_known_is_an_error(text: str) -> None:
    with pytest.raises(PtxError):
        compute(text, "u4", A[:32], B[:32])
