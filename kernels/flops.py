"""Floating-point operations of the operations, as `torch.utils.flop_counter.FlopCounterMode` counts them.

A product counts as that of the dense layer that it stands for, 2 for each multiplication with its addition, whether or
not the losers are skipped in it. So perceptrons with competition and with another activation have the same number in
the forward pass; in the backward pass one with competition has a product more, by which it computes the responses
again. Operations compute, and count, all gradients, whether or not all are asked for. The competition itself counts as
nothing, as activation functions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from lwta.kernels.operations import linear_winners, mlp, winners_linear, winners_sum  # noqa: F401  they register

Shape = Sequence[int]


def _products(count: int, positions: Shape, weight: Shape) -> int:
    """Return the operations of ``count`` products of a matrix, with a row for each position, and a weight."""
    return count * 2 * prod(positions) * prod(weight)


@register_flop_formula(torch.ops.lwta.linear_winners)
def _linear_winners(x: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    return _products(1, x[:-1], weight)


@register_flop_formula(torch.ops.lwta.linear_winners_backward)
def _linear_winners_backward(grad: Shape, x: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    return _products(2, x[:-1], weight)


@register_flop_formula(torch.ops.lwta.winners_linear)
def _winners_linear(value: Shape, index: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    return _products(1, value[:-1], weight)


@register_flop_formula(torch.ops.lwta.winners_linear_backward)
def _winners_linear_backward(
    grad: Shape, value: Shape, index: Shape, weight: Shape, *_: Any, out_shape: Any = None
) -> int:
    return _products(2, grad[:-1], weight)


@register_flop_formula(torch.ops.lwta.mlp)
def _mlp(x: Shape, weight1: Shape, bias1: Shape | None, weight2: Shape, *_: Any, out_shape: Any = None) -> int:
    return _products(1, x[:-1], weight1) + _products(1, x[:-1], weight2)


@register_flop_formula(torch.ops.lwta.mlp_backward)
def _mlp_backward(
    grad: Shape, x: Shape, weight1: Shape, bias1: Shape | None, weight2: Shape, *_: Any, out_shape: Any = None
) -> int:
    return _products(3, x[:-1], weight1) + _products(2, x[:-1], weight2)


@register_flop_formula(torch.ops.lwta.winners_sum)
def _winners_sum(value: Shape, index: Shape, x: Shape, competitors: int, *, out_shape: Any = None) -> int:
    return _products(1, value[:1], (value[1] * competitors, x[1]))
