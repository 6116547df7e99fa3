"""Logarithm of a concept's probability on a neuron's most active images, over cosines never written to memory.

    log p[i, m] = Σ_j log(1 + p_j·(S[n_ij, m] − 1) + 1e-7)        S[n, m] = exp(scale·P[n, m] − lse[n]),  P = I·Tᵀ

over the most active images n_ij of neuron i, with memberships p_j by rank. This is the sum in `soft_wpmi`; with p_j = 1
the term becomes log(S + 1e-7), that of `wpmi` (CLIP-Dissect, Oikarinen & Weng, ICLR 2023). lse comes from
`concept_logsumexp`. A program gathers the rows of a neuron's images, computes their cosines on the matrix units and
sums the logarithms in registers: of D·k·M numbers only the D·M results reach memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels import eager
from lwta.kernels.triton_parts.launch import on_its_device, precision
from lwta.kernels.triton_parts.matmul import cosines, operands


@triton.jit
def _kernel(
    image_ptr, text_ptr, lse_ptr, top_ptr, p_ptr, out_ptr, scale, epsilon, neurons, ranks, concepts, features,
    NEURONS: tl.constexpr, RANKS: tl.constexpr, CONCEPTS: tl.constexpr, FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, NEURONS * RANKS)
    first = tl.program_id(0) * NEURONS
    concept = tl.program_id(1) * CONCEPTS + tl.arange(0, CONCEPTS)
    total = tl.zeros((NEURONS, CONCEPTS), tl.float32)
    for start in tl.range(0, ranks, RANKS):
        neuron, rank = first + row // RANKS, start + row % RANKS
        exists = (neuron < neurons) & (rank < ranks)
        image = tl.load(top_ptr + neuron.to(tl.int64) * ranks + rank, mask=exists, other=-1)
        present = image >= 0
        image = tl.maximum(image, 0)
        P = cosines(
            image_ptr, text_ptr, image, concept % concepts, features, NEURONS * RANKS, CONCEPTS, FEATURES, PRECISION
        )
        p = tl.load(p_ptr + rank, mask=rank < ranks, other=1.0).to(tl.float32)
        S = tl.exp(scale * P - tl.load(lse_ptr + image)[:, None])
        terms = tl.log(p[:, None] * S + ((1.0 - p) + epsilon)[:, None])
        terms = tl.where(present[:, None], terms, 0.0)
        total += tl.sum(tl.reshape(terms, (NEURONS, RANKS, CONCEPTS)), axis=1)
    neuron = first + tl.arange(0, NEURONS)
    place = neuron.to(tl.int64)[:, None] * concepts + concept[None, :]
    tl.store(out_ptr + place, total, mask=(neuron < neurons)[:, None] & (concept < concepts)[None, :])


@on_its_device
def launch(images: Tensor, texts: Tensor, lse: Tensor, top: Tensor, p: Tensor, scale: float) -> Tensor:
    """Run the kernel; arguments as in `eager.concepts.concept_log_p`, none of them float64."""
    images, texts = operands(images, texts)
    lse, top, p = lse.contiguous(), top.contiguous(), p.contiguous()
    (neurons, ranks), (concepts, features) = top.shape, texts.shape
    out = images.new_zeros((neurons, concepts), dtype=torch.float32)
    if out.numel() and top.numel() and len(images):
        wide = images.element_size() > 2
        rows = 64 if wide else 128
        per_neuron = min(max(triton.next_power_of_2(ranks), 16), rows)
        tile = {"NEURONS": rows // per_neuron, "RANKS": per_neuron, "CONCEPTS": rows}
        grid = triton.cdiv(neurons, tile["NEURONS"]), triton.cdiv(concepts, tile["CONCEPTS"])
        _kernel[grid](
            images, texts, lse, top, p, out, scale, eager.concepts.EPSILON, neurons, ranks, concepts, features,
            **tile, FEATURES=32 if wide else 64, PRECISION=precision(images),
            num_warps=4 if wide else 8, num_stages=3, enable_fp_fusion=True,
        )  # fmt: skip
    return out


@torch.library.custom_op("lwta::concept_log_p", mutates_args=())
def concept_log_p(images: Tensor, texts: Tensor, lse: Tensor, top: Tensor, p: Tensor, scale: float) -> Tensor:
    """Compute `eager.concepts.concept_log_p` on any device.

    Args:
        images: I, (N, d) floating point.
        texts: T, (M, d) floating point.
        lse: (N,) of `concept_logsumexp`.
        top: (D, k) integer, rows of ``images``; −1 for none, which adds nothing.
        p: (k,) floating point, memberships by rank, in (0, 1].
        scale: as for ``lse``.

    Returns:
        Logarithms of the probabilities, (D, M) float32, or float64 if any argument is.
    """
    if images.is_cuda and torch.float64 not in (images.dtype, texts.dtype, lse.dtype, p.dtype):
        return launch(images, texts, lse, top, p, scale)
    return eager.concepts.concept_log_p(images, texts, lse, top, p, scale)


@concept_log_p.register_fake
def _(images: Tensor, texts: Tensor, lse: Tensor, top: Tensor, p: Tensor, scale: float) -> Tensor:
    dtype = eager.concepts.common_dtype(images, texts, lse, p)
    return images.new_empty((top.shape[0], texts.shape[0]), dtype=dtype)
