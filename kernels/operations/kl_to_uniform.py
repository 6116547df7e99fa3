"""Mean Kullback-Leibler divergence of each block's winner distribution from the uniform one.

    π = softmax_u(h)
    KL        = Σ_u π_u·log π_u + log U                         averaged over all blocks
    ∂KL/∂h_u  = π_u·(log π_u − Σ_v π_v·log π_v) / blocks

The regulariser of the ELBO (DISCOVER, arXiv 2310.04929, eq. 7). Sums are deterministic: one partial sum a program,
then a sum of those.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels import eager
from lwta.kernels.transforms import transformable
from lwta.kernels.triton_parts.blocks import OPTIONS, load_scores, prepare, store, tile
from lwta.kernels.triton_parts.launch import on_its_device


@triton.jit
def _log_softmax(z):
    """Return log π, π, and the terms π·log π of the sum by block, which are 0 where π is 0.

    The choice of 0 comes after the product: else the compiler fuses a product into the sum over competitors, and
    where these are in several threads each of them rounds another of the products, so that they differ in their sums.
    """
    shifted = z - tl.max(z, axis=1)[:, None]
    weights = tl.exp(shifted)
    total = tl.sum(weights, axis=1)[:, None]
    log_pi, pi = shifted - tl.log(total), weights / total
    return log_pi, pi, tl.where(pi == 0.0, 0.0, pi * log_pi)


@triton.jit(do_not_specialize=["inner_multiples"])
def _forward_kernel(
    x_ptr, partial_ptr, log_competitors, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr, CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
):  # fmt: skip
    instance, offsets, exists = tile(
        tl.program_id(0), instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG
    )
    _, z = load_scores(
        x_ptr, x_ptr, instance, offsets, exists, units, inner_multiples,
        INNER_MULTIPLE, U, SPAN, WIDTH, CONTIGUOUS, False, False,
    )  # fmt: skip
    _, _, terms = _log_softmax(z)
    divergence = tl.reshape(tl.sum(terms, axis=1) + log_competitors, (INSTANCES, SPAN // U))
    divergence = tl.where((instance < instances)[:, None], divergence, 0.0)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(tl.sum(divergence, axis=1), axis=0))


@triton.jit(do_not_specialize=["inner_multiples"])
def _backward_kernel(
    grad_ptr, x_ptr, out_ptr, scale, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr, CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
):  # fmt: skip
    instance, offsets, exists = tile(
        tl.program_id(0), instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG
    )
    _, z = load_scores(
        x_ptr, x_ptr, instance, offsets, exists, units, inner_multiples,
        INNER_MULTIPLE, U, SPAN, WIDTH, CONTIGUOUS, False, False,
    )  # fmt: skip
    log_pi, pi, terms = _log_softmax(z)
    pull = tl.load(grad_ptr).to(tl.float32) * scale * pi * (log_pi - tl.sum(terms, axis=1)[:, None])
    out = tl.where(pi == 0.0, 0.0, pull)  # there log π may be −inf
    store(out_ptr, offsets, exists, tl.reshape(out, (INSTANCES, WIDTH)), WIDTH, CONTIGUOUS)


@on_its_device
def launch_forward(x: Tensor, competitors: int, dim: int) -> Tensor:
    """Run the forward kernel, and return a 0-dim float32; arguments as in `eager.competition.kl_to_uniform`."""
    x, layout = prepare(x, competitors, dim)
    partial = x.new_zeros(layout.programs(), dtype=torch.float32)
    if x.numel():
        _forward_kernel[(layout.programs(),)](x, partial, math.log(competitors), **layout.arguments(), **OPTIONS)
    return partial.sum() / max(layout.outer * layout.blocks * layout.inner, 1)


@on_its_device
def launch_backward(grad: Tensor, x: Tensor, competitors: int, dim: int) -> Tensor:
    """Run the backward kernel; arguments as in `eager.competition.kl_to_uniform_backward`."""
    x, layout = prepare(x, competitors, dim)
    out = torch.empty_like(x)
    if x.numel():
        scale = 1 / (layout.outer * layout.blocks * layout.inner)
        _backward_kernel[(layout.programs(),)](grad, x, out, scale, **layout.arguments(), **OPTIONS)
    return out


@torch.library.custom_op("lwta::kl_to_uniform", mutates_args=())
def kl_to_uniform(x: Tensor, competitors: int, dim: int) -> Tensor:
    """Compute the operation on any device; `lwta.functional.kl_to_uniform` checks and documents the arguments."""
    if x.is_cuda and x.dtype != torch.float64:
        return launch_forward(x, competitors, dim)
    return eager.competition.kl_to_uniform(x, competitors, dim)


@torch.library.custom_op("lwta::kl_to_uniform_backward", mutates_args=())
def kl_to_uniform_backward(grad: Tensor, x: Tensor, competitors: int, dim: int) -> Tensor:
    """Return the gradient of `kl_to_uniform` with respect to x."""
    if x.is_cuda and x.dtype != torch.float64:
        return launch_backward(grad, x, competitors, dim)
    return eager.competition.kl_to_uniform_backward(grad, prepare(x, competitors, dim)[0], competitors, dim)


@kl_to_uniform.register_fake
def _(x: Tensor, competitors: int, dim: int) -> Tensor:
    return x.new_empty((), dtype=torch.promote_types(x.dtype, torch.float32))


@kl_to_uniform_backward.register_fake
def _(grad: Tensor, x: Tensor, competitors: int, dim: int) -> Tensor:
    return torch.empty_like(prepare(x, competitors, dim)[0])


_differentiate = transformable(kl_to_uniform_backward)


def _setup_context(ctx, inputs, output) -> None:
    x, *ctx.options = inputs
    ctx.save_for_backward(x)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _differentiate(grad, *ctx.saved_tensors, *ctx.options), None, None


transformable_kl_to_uniform = transformable(kl_to_uniform, _backward, _setup_context)
