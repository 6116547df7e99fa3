"""Perceptron: two linear layers with competition between them, of which only the winners are kept for backward.

    h = x·W₁ᵀ + b₁,   (value, index) = winners of h + g,   y = Σ_b value_b·W₂[:, unit_b] + b₂
    backward   G = ∂y·W₂ (for every competitor, not only the winner),   ∂h = straight-through(G, h),   as in `lwta`

A perceptron with GELU keeps h or GELU(h) for backward, K numbers a row. This one keeps value and index of the winners
and computes h again from x: one more product, and a U-th of the memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lwta.kernels import eager
from lwta.kernels.operations.linear_winners import linear_winners
from lwta.kernels.operations.lwta import lwta_backward
from lwta.kernels.operations.winners import index_dtype
from lwta.kernels.operations.winners_linear import winners_linear
from lwta.kernels.transforms import transformable


@torch.library.custom_op("lwta::mlp", mutates_args=())
def mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    competitors: int,
    mode: str,
    temperature: float,
    seed: Tensor | None,
    annealed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and value and index of the winners; `lwta.functional.mlp` documents the arguments.

    ``annealed`` is the temperature as a tensor, as the operator `lwta` takes it.
    """
    value, index = linear_winners(x, weight1, bias1, competitors, mode, seed)
    return winners_linear(value, index, weight2, bias2, competitors), value, index


@torch.library.custom_op("lwta::mlp_backward", mutates_args=())
def mlp_backward(
    grad: Tensor,
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    value: Tensor,
    index: Tensor,
    competitors: int,
    mode: str,
    temperature: float,
    seed: Tensor | None,
    annealed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, and to weight and bias of both layers."""
    rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    h = F.linear(rows, weight1, bias1)
    grad_h = lwta_backward(grad_rows @ weight2, h, competitors, mode, temperature, 1, seed, False, annealed)
    del h
    dense = eager.competition.winners_to_dense(value, index, competitors).view(grad_h.shape)
    grad_x = (grad_h @ weight1).view(x.shape)
    return grad_x, grad_h.t() @ rows, grad_h.sum(0), grad_rows.t() @ dense, grad_rows.sum(0)


@mlp.register_fake
def _(x, weight1, bias1, weight2, bias2, competitors, mode, temperature, seed, annealed=None):
    compact = (*x.shape[:-1], weight1.shape[0] // competitors)
    y = x.new_empty((*x.shape[:-1], weight2.shape[0]))
    return y, x.new_empty(compact), x.new_empty(compact, dtype=index_dtype(competitors))


@mlp_backward.register_fake
def _(grad, x, weight1, bias1, weight2, value, index, competitors, mode, temperature, seed, annealed=None):
    first = weight1.new_empty(weight1.shape), weight1.new_empty(weight1.shape[0])
    return x.new_empty(x.shape), *first, weight2.new_empty(weight2.shape), weight2.new_empty(weight2.shape[0])


_differentiate = transformable(mlp_backward)


def _setup_context(ctx, inputs, output) -> None:
    x, weight1, bias1, weight2, bias2, ctx.competitors, ctx.mode, ctx.temperature, seed, annealed = inputs
    _, value, index = output
    ctx.mark_non_differentiable(value, index)
    ctx.has_bias = bias1 is not None, bias2 is not None
    ctx.save_for_backward(x, weight1, bias1, weight2, value, index, seed, annealed)


def _backward(ctx, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    *saved, seed, annealed = ctx.saved_tensors
    grad_x, grad_weight1, grad_bias1, grad_weight2, grad_bias2 = _differentiate(
        grad, *saved, ctx.competitors, ctx.mode, ctx.temperature, seed, annealed
    )
    grad_bias1, grad_bias2 = grad_bias1 if ctx.has_bias[0] else None, grad_bias2 if ctx.has_bias[1] else None
    return grad_x, grad_weight1, grad_bias1, grad_weight2, grad_bias2, None, None, None, None, None


transformable_mlp = transformable(mlp, _backward, _setup_context)
