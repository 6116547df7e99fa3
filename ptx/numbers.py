"""Numbers of PTX in NumPy: types, formats that NumPy lacks, and arithmetic that rounds as the hardware does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""NumPy array with a number for each thread, or a NumPy scalar that all threads share."""

TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "pred": "?", "b8": "u1", "u8": "u1", "s8": "i1", "b16": "u2", "u16": "u2", "s16": "i2", "b32": "u4",
        "u32": "u4", "s32": "i4", "b64": "u8", "u64": "u8", "s64": "i8", "f16": "f2", "f32": "f4", "f64": "f8",
        "bf16": "u2", "bf16x2": "u4", "f16x2": "u4", "tf32": "u4",
    }.items()
}  # fmt: skip
"""NumPy's type for each of PTX; bfloat16, TF32 and pairs as bits."""

BITS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8")}
"""Unsigned type by its size in bytes."""


_NAN32 = np.array(0x7FFFFFFF, np.uint32).view(np.float32)[()]
"""The NaN that instructions give."""


def as_type(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return bits as numbers of another type: reinterpreted if the sizes agree, else cut off or extended."""
    x = np.asarray(x)[()]
    if x.dtype == dtype:
        return x
    return x.view(dtype) if x.dtype.itemsize == dtype.itemsize else x.astype(dtype)


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return a·b + c of numbers with 24 bits, in float64 rounded to odd: rounded once more it is rounded once.

    The product is exact in float64. Of a sum that is not, the last bit is set: so it is no tie of a shorter format, nor
    on the wrong side of one.
    """
    product, addend = np.multiply(a, b, dtype=np.float64), np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    back = total - product
    lost = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    step = np.where((lost > 0) == (total > 0), 1, -1)
    odd = np.where(bits & 1, bits, bits + step).view(np.float64)
    return np.where(np.isfinite(total) & (lost != 0), odd, total)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """Return a·b + c, float32, rounded once.

    What the sum in float64 lost matters only half way between two float32, and below the smallest normal one.
    """
    total = np.asarray(np.multiply(a, b, dtype=np.float64) + c)
    unsure = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    unsure |= (np.abs(total) < 2.0**-126) & (total != 0)
    return (fma(a, b, c) if unsure.any() else total).astype(np.float32)


def _odd32(x: Array) -> Array:
    """Return float64 as float32 rounded to odd."""
    near = np.asarray(x).astype(np.float32)
    cut = np.where(np.abs(near.astype(np.float64)) > np.abs(x), np.nextafter(near, np.float32(0)), near)
    return np.where(cut == x, cut, (cut.view(np.uint32) | 1).view(np.float32))


def _extremum(a: Array, b: Array, larger: bool, spreads: bool) -> Array:
    """Return the larger or the smaller of two float32; +0 is larger than −0."""
    both_zero = (a == 0) & (b == 0)
    negative = np.logical_and if larger else np.logical_or
    zero = np.where(negative(np.signbit(a), np.signbit(b)), np.float32(-0.0), np.float32(0.0))
    function = (np.maximum if larger else np.minimum) if spreads else (np.fmax if larger else np.fmin)
    out = function(a, b)
    return np.where(both_zero, zero, np.where(np.isnan(out), _NAN32, out))


def minimum(a: Array, b: Array, spreads: bool) -> Array:
    """Return the smaller of two float32; of a number and NaN the number, unless NaN spreads."""
    return _extremum(a, b, False, spreads)


def maximum(a: Array, b: Array, spreads: bool) -> Array:
    """Return the larger of two float32; of a number and NaN the number, unless NaN spreads."""
    return _extremum(a, b, True, spreads)


def flushed(x: Array) -> Array:
    """Return float32 with subnormal numbers as zero of their sign."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def to_bf16(x: Array) -> Array:
    """Return the bits of bfloat16 nearest to float32 or float64; ties go to the even one."""
    bits = np.asarray(_odd32(x) if np.asarray(x).dtype == np.float64 else x, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def from_bf16(bits: Array) -> Array:
    """Return bits of bfloat16 as float32."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def to_f16(x: Array) -> Array:
    """Return the bits of float16 nearest to float32 or float64."""
    return np.where(np.isnan(x), np.uint16(0x7FFF), np.asarray(x).astype(np.float16).view(np.uint16))


def to_tf32(x: Array) -> Array:
    """Return the bits of TF32 nearest to float32; ties go away from zero."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), np.where(np.isinf(x), bits, (bits + 0x1000) & 0xFFFFE000))


def from_tf32(bits: Array) -> Array:
    """Return float32 from bits of TF32, of which the last 13 do not count."""
    return (np.asarray(bits, np.uint32) & 0xFFFFE000).view(np.float32)


def float_toward_zero(x: Array) -> Array:
    """Return the float32 nearest to integers among those no larger in magnitude."""
    near = np.asarray(x).astype(np.float32)
    wide = np.asarray(x).astype(np.float64)
    return np.where(np.abs(near.astype(np.float64)) > np.abs(wide), np.nextafter(near, np.float32(0)), near)


def integer_toward_zero(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return floats as integers: cut off, clamped to the type's range; for NaN 0, or the highest bit of 64."""
    limits = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(np.asarray(x, np.float64), nan=0.0))
    low, high = float(limits.min), float(limits.max)
    inside = np.clip(whole, low, np.nextafter(high, 0) if high >= 2.0**63 - 1 else high).astype(dtype)
    out = np.where(whole >= high, dtype.type(limits.max), inside)
    nothing = np.array(1 << 63 if dtype.itemsize == 8 else 0, np.uint64).astype(dtype)
    return np.where(np.isnan(x), nothing, out)


def quotient(a: Array, b: Array) -> Array:
    """Return the integer quotient cut off toward zero; 0 for a division by zero."""
    divisor = np.where(b == 0, np.ones_like(b), b)
    return (a - np.fmod(a, divisor)) // divisor


def permuted_bytes(a: Array, b: Array, selector: Array) -> Array:
    """Return four of the eight bytes of (a, b), each chosen by four bits of the selector (`prmt`)."""
    both = np.asarray(a, np.uint64) | (np.asarray(b, np.uint64) << 32)
    selector, out = np.asarray(selector, np.uint64), np.uint64(0)
    for position in range(4):
        choice = (selector >> (4 * position)) & 15
        byte = (both >> ((choice & 7) * 8)) & 255
        sign = np.where(byte & 128, np.uint64(255), np.uint64(0))
        out = out | (np.where(choice & 8, sign, byte) << (8 * position))
    return np.asarray(out).astype(np.uint32)[()]


def bit_field(x: Array, start: Array, length: Array, signed: bool) -> Array:
    """Return ``length`` bits of unsigned x from ``start`` on, extended by the sign if asked for (`bfe`).

    Start and length count modulo 256. The sign is the field's last bit, or that of x where the field leaves x.
    """
    x = np.asarray(x)
    dtype, bits = x.dtype, 8 * x.dtype.itemsize
    start, length = np.asarray(start).astype(np.int64) & 255, np.asarray(length).astype(np.int64) & 255
    inside = np.clip(bits - start, 0, length)  # bits of the field that lie in x
    one = dtype.type(1)
    field = x >> np.minimum(start, bits - 1).astype(dtype)
    whole = inside >= bits
    mask = np.where(whole, ~dtype.type(0), (one << np.where(whole, 0, inside).astype(dtype)) - one)
    field = np.where(inside > 0, field & mask, dtype.type(0))
    if not signed:
        return field
    last = np.minimum(start + length - 1, bits - 1)
    negative = (length > 0) & ((x >> last.astype(dtype)) & one == 1)
    return np.where(negative, field | np.invert(mask), field)


def packed(parts: list[Array], dtype: np.dtype[Any]) -> Array:
    """Return one number made of parts of equal size, the first in its lowest bits."""
    bits = dtype.itemsize * 8 // len(parts)
    out = np.asarray(parts[0]).astype(dtype)
    for position, part in enumerate(parts[1:], 1):
        out = out | (np.asarray(part).astype(dtype) << dtype.type(position * bits))
    return out[()]


def unpacked(x: Array, parts: int) -> list[Array]:
    """Return the parts of a number, the lowest bits first."""
    dtype = BITS[x.dtype.itemsize // parts]
    bits = x.dtype.type(dtype.itemsize * 8)
    return [(x >> (bits * x.dtype.type(position))).astype(dtype) for position in range(parts)]


def noise_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a number in [−1, 1] for each x that looks random and is always the same for the same x."""
    bits = np.ascontiguousarray(x, np.float64).view(np.uint64)
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
