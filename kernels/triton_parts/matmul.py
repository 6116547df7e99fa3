"""Products of matrices in the kernels for dissection: float32 on the matrix units, and the cutting of long sums.

A float32 product of matrices has no matrix unit of its own on NVIDIA GPUs. 3 × TF32 splits each factor in two,
x = big + small with 11 significant bits each, and takes small·big + big·small + big·big: what is left out is of the
order of 2⁻²² of the product. AMD's gfx942 has matrix instructions for float32 itself. TF32 alone, at 2⁻¹¹, would move
cosines in their fourth digit, and the cube of a cosine, or its exponential at a scale of 100, accordingly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 512
"""Number of programs that keep a large GPU busy; a constant, so that sums have one order on every device."""

SHORTEST = 256
"""Smallest number of terms for which a slice is worth a program and a partial sum."""


def operands(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return both embeddings contiguous and of one type."""
    dtype = torch.promote_types(images.dtype, texts.dtype)
    return images.to(dtype).contiguous(), texts.to(dtype).contiguous()


def slices(terms: int, tiles: int, multiple: int) -> tuple[int, int]:
    """Return into how many slices to cut a sum, and the number of terms in each; the last may have fewer.

    Args:
        terms: number of terms in the whole sum.
        tiles: number of tiles of the result; there is a program for each tile and slice.
        multiple: number of terms that a program adds at a time.
    """
    wanted = min(triton.cdiv(PROGRAMS, max(tiles, 1)), max(terms // SHORTEST, 1))
    length = triton.cdiv(triton.cdiv(terms, wanted), multiple) * multiple
    return triton.cdiv(terms, max(length, 1)), length


@triton.jit
def cosines(
    image_ptr, text_ptr, image, concept, features,
    IMAGES: tl.constexpr, CONCEPTS: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return P = I·Tᵀ, (IMAGES, CONCEPTS) float32, for rows ``image`` of I and ``concept`` of T, all of which exist."""
    image_row = image_ptr + image.to(tl.int64)[:, None] * features
    text_row = text_ptr + concept.to(tl.int64)[None, :] * features
    P = tl.zeros((IMAGES, CONCEPTS), tl.float32)
    for start in tl.range(0, features, FEATURES):
        feature = start + tl.arange(0, FEATURES)
        i = tl.load(image_row + feature[None, :], mask=(feature < features)[None, :], other=0.0)
        t = tl.load(text_row + feature[:, None], mask=(feature < features)[:, None], other=0.0)
        P = tl.dot(i, t, P, input_precision=PRECISION)
    return P
