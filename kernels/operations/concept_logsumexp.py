"""Logarithm of the sum over concepts of exponentiated cosines, which are never written to memory.

    lse[n] = log Σ_m exp(scale·P[n, m])        P = I·Tᵀ

exp(lse) is the denominator of the softmax over concepts in `wpmi` and `soft_wpmi` (CLIP-Dissect, Oikarinen & Weng, ICLR
2023); see `concept_log_p`. A program streams over tiles of concepts with a running maximum, as online softmax does.
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
    image_ptr, text_ptr, lse_ptr, scale, images, concepts, features, concepts_per_slice,
    IMAGES: tl.constexpr, CONCEPTS: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0) * IMAGES + tl.arange(0, IMAGES)
    begin = tl.program_id(1) * concepts_per_slice
    end = tl.minimum(begin + concepts_per_slice, concepts)
    best = tl.full((IMAGES,), -float("inf"), tl.float32)
    total = tl.zeros((IMAGES,), tl.float32)
    for start in tl.range(begin, end, CONCEPTS):
        concept = start + tl.arange(0, CONCEPTS)
        P = cosines(
            image_ptr, text_ptr, image % images, tl.minimum(concept, concepts - 1), features,
            IMAGES, CONCEPTS, FEATURES, PRECISION,
        )  # fmt: skip
        z = tl.where((concept < end)[None, :], scale * P, -float("inf"))
        previous = best
        best = tl.maximum(best, tl.max(z, axis=1))
        total = total * tl.exp(previous - best) + tl.sum(tl.exp(z - best[:, None]), axis=1)
    place = tl.program_id(1).to(tl.int64) * images + image
    tl.store(lse_ptr + place, best + tl.log(total), mask=image < images)


@on_its_device
def launch(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Run the kernel; arguments as in `eager.concepts.concept_logsumexp`, none of them float64."""
    images, texts = operands(images, texts)
    (count, features), concepts = images.shape, texts.shape[0]
    wide = images.element_size() > 2
    tile = {"IMAGES": 64, "CONCEPTS": 64, "FEATURES": 32} if wide else {"IMAGES": 128, "CONCEPTS": 128, "FEATURES": 64}
    tiles = triton.cdiv(count, tile["IMAGES"])
    parts, concepts_per_part = slices(concepts, tiles, tile["CONCEPTS"])
    partial = images.new_empty((parts, count), dtype=torch.float32)
    if partial.numel():
        _kernel[(tiles, parts)](
            images, texts, partial, scale, count, concepts, features, concepts_per_part,
            **tile, PRECISION=precision(images), num_warps=4 if wide else 8, num_stages=3, enable_fp_fusion=True,
        )  # fmt: skip
    return partial[0] if parts == 1 else partial.logsumexp(0)


@torch.library.custom_op("lwta::concept_logsumexp", mutates_args=())
def concept_logsumexp(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Compute `eager.concepts.concept_logsumexp` on any device.

    Args:
        images: I, (N, d) floating point.
        texts: T, (M, d) floating point.
        scale: factor on the cosines.

    Returns:
        Logarithms of the sums, (N,) float32, or float64 if any argument is; −inf where there is no concept.
    """
    if images.is_cuda and torch.float64 not in (images.dtype, texts.dtype):
        return launch(images, texts, scale)
    return eager.concepts.concept_logsumexp(images, texts, scale)


@concept_logsumexp.register_fake
def _(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return images.new_empty(images.shape[0], dtype=eager.concepts.common_dtype(images, texts))
