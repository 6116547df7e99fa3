"""Weighted sums over images of a function of their cosines to concepts, which are never written to memory.

    out[i, m] = Σ_n W[n, i]·f(P[n, m])      P = I·Tᵀ,  f(P) = (P − centre_m)^power, power 1 or 3
    squares[m] = Σ_n f(P[n, m])²

With power 1 these are the numerators of `cos`; with power 3, P's column means as centres and W = (A − mean)³, those of
`cos_cubed` (CLIP-Dissect, Oikarinen & Weng, ICLR 2023). A program computes NEURONS × CONCEPTS of the result and goes
through its slice of the images: a tile of P on the matrix units, f in registers, a product with the weights. P is
computed once for every tile of neurons: 2·N·M·(d·D/NEURONS + D) operations instead of 2·N·M·(d + D), but N·M numbers
less in memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels import eager
from lwta.kernels.triton_parts.launch import on_its_device, precision
from lwta.kernels.triton_parts.matmul import cosines, operands, slices


@triton.jit
def _kernel(
    image_ptr, text_ptr, weight_ptr, centre_ptr, out_ptr, square_ptr,
    images, concepts, neurons, features, images_per_slice,
    POWER: tl.constexpr, IMAGES: tl.constexpr, CONCEPTS: tl.constexpr, NEURONS: tl.constexpr, FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)
    concept = tl.program_id(1) * CONCEPTS + tl.arange(0, CONCEPTS)
    begin = tl.program_id(2) * images_per_slice
    end = tl.minimum(begin + images_per_slice, images)
    centre = tl.load(centre_ptr + concept, mask=concept < concepts, other=0.0).to(tl.float32)
    out = tl.zeros((NEURONS, CONCEPTS), tl.float32)
    squares = tl.zeros((CONCEPTS,), tl.float32)
    for start in tl.range(begin, end, IMAGES):
        image = start + tl.arange(0, IMAGES)
        P = cosines(
            image_ptr, text_ptr, tl.minimum(image, images - 1), concept % concepts, features,
            IMAGES, CONCEPTS, FEATURES, PRECISION,
        )  # fmt: skip
        f = P - centre[None, :]
        if POWER == 3:
            f = f * f * f
        f = tl.where((image < end)[:, None], f, 0.0)
        squares += tl.sum(f * f, axis=0)
        place = image.to(tl.int64)[None, :] * neurons + neuron[:, None]
        exists = (image < end)[None, :] & (neuron < neurons)[:, None]
        weight = tl.load(weight_ptr + place, mask=exists, other=0.0).to(tl.float32)
        out = tl.dot(weight, f, out, input_precision=PRECISION)
    row = tl.program_id(2).to(tl.int64) * neurons + neuron
    exists = (neuron < neurons)[:, None] & (concept < concepts)[None, :]
    tl.store(out_ptr + row[:, None] * concepts + concept[None, :], out, mask=exists)
    if tl.program_id(0) == 0:
        tl.store(square_ptr + tl.program_id(2) * concepts + concept, squares, mask=concept < concepts)


@on_its_device
def launch(images: Tensor, texts: Tensor, weights: Tensor, centre: Tensor, power: int) -> tuple[Tensor, Tensor]:
    """Run the kernel; arguments as in `eager.concepts.concept_similarity`, none of them float64."""
    images, texts = operands(images, texts)
    weights, centre = weights.contiguous(), centre.contiguous()
    (count, features), concepts, neurons = images.shape, texts.shape[0], weights.shape[1]
    tile = {"IMAGES": 64, "CONCEPTS": 64, "NEURONS": 128, "FEATURES": 32 if images.element_size() > 2 else 64}
    tiles = max(triton.cdiv(neurons, tile["NEURONS"]), 1), triton.cdiv(concepts, tile["CONCEPTS"])
    parts, images_per_part = slices(count, tiles[0] * tiles[1], tile["IMAGES"])
    grid = (*tiles, parts)
    out = images.new_empty((parts, neurons, concepts), dtype=torch.float32)
    squares = images.new_empty((parts, concepts), dtype=torch.float32)
    if squares.numel():
        _kernel[grid](
            images, texts, weights, centre, out, squares, count, concepts, neurons, features, images_per_part,
            POWER=power, **tile, PRECISION=precision(images), num_warps=8, num_stages=2, enable_fp_fusion=True,
        )  # fmt: skip
    return out.sum(0), squares.sum(0)


@torch.library.custom_op("lwta::concept_similarity", mutates_args=())
def concept_similarity(
    images: Tensor, texts: Tensor, weights: Tensor, centre: Tensor, power: int
) -> tuple[Tensor, Tensor]:
    """Compute `eager.concepts.concept_similarity` on any device.

    Args:
        images: I, (N, d) floating point.
        texts: T, (M, d) floating point.
        weights: W, (N, D) floating point.
        centre: (M,) floating point, subtracted from the columns of P; P's column means are T times the mean of I.
        power: 1 or 3.

    Returns:
        Weighted sums, (D, M), and sums of squares, (M,), both float32, or float64 if any argument is.

    Raises:
        ValueError: ``power`` is neither 1 nor 3.
    """
    if power not in (1, 3):
        raise ValueError(f"power must be 1 or 3, got {power}")
    if images.is_cuda and torch.float64 not in (images.dtype, texts.dtype, weights.dtype, centre.dtype):
        return launch(images, texts, weights, centre, power)
    return eager.concepts.concept_similarity(images, texts, weights, centre, power)


@concept_similarity.register_fake
def _(images: Tensor, texts: Tensor, weights: Tensor, centre: Tensor, power: int) -> tuple[Tensor, Tensor]:
    dtype = eager.concepts.common_dtype(images, texts, weights, centre)
    concepts = texts.shape[0]
    return weights.new_empty((weights.shape[1], concepts), dtype=dtype), weights.new_empty(concepts, dtype=dtype)
