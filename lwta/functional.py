"""Operations as functions: argument checks and documentation around the kernels.

Everything random is a pure function of a seed. Where none is given, one is drawn from the default generator of the
input's device, so `torch.manual_seed`, activation checkpointing, CUDA graphs and `torch.compile` behave as usual.
Forked workers, `torch.vmap`, `torch.compile` and distributed ranks have their own rules for that: docs/randomness.md.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, fx

from lwta import kernels
from lwta.checks import (
    check_blocks,
    check_choice,
    check_dense,
    check_indices,
    check_linear,
    check_seed,
    check_temperature,
    check_width,
)
from lwta.winners import Winners

Mode = Literal["sample", "argmax", "relaxed"]
WinnerMode = Literal["sample", "argmax"]


def lwta(
    x: Tensor,
    competitors: int,
    *,
    mode: Mode = "sample",
    temperature: float = 1.67,
    dim: int | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """Stochastic Local Winner-Takes-All: in each block of competitors one winner passes its response on.

    With h the responses of a block, g Gumbel noise and s = softmax((h + g)/τ), the output is h at argmax(h + g) and
    exactly 0 elsewhere; the winner's law is softmax(h) at any τ. The gradient is the straight-through one,
    ∂L/∂h_u = G_u·ξ_u + (s_u/τ)·(G_u·h_u − Σ_v s_v·G_v·h_v), so every competitor learns (DISCOVER, arXiv 2310.04929,
    section 3). Saved for backward: ``x`` and the seed.

    Args:
        x: responses, float32, float16, bfloat16 or float64, any shape and strides; arithmetic is float32 or wider. A
            response of −inf masks its unit: it never wins, and passes no gradient.
        competitors: U ≥ 1, must divide ``x.shape[dim]``; blocks are U consecutive units. U = 1 is the identity.
        mode: "sample" draws winners; "argmax" lets the largest response win, without noise; "relaxed" returns s·h,
            which is not sparse.
        temperature: τ of the softmax, from 1.2e-38 to 8.5e37, so that float32 holds 1/τ; it touches the gradient, and
            the output in mode "relaxed".
        dim: axis that competes; None means 1 for a 4-D input (N, C, H, W), else −1.
        seed: 0-dim int64 on the device of ``x``; None draws one.

    Returns:
        Shape and dtype of ``x``. A block with a NaN response is NaN throughout; +inf wins; ties go to the lower index.
        Where all responses of a block are −inf, so is the output of the first, unless the mode is "relaxed", where the
        block is NaN, as a softmax of it is; so is its gradient in every mode.

    Raises:
        TypeError: ``x`` is not a dense tensor of floating-point numbers, ``competitors`` not an int, or ``seed`` not a
            0-dim int64 tensor.
        ValueError: ``competitors``, ``mode``, ``temperature`` or ``dim`` is out of range, or ``seed`` is on another
            device.

    Example:
        >>> lwta(torch.tensor([[1.0, 3.0, -2.0, -1.0]]), 2, mode="argmax")
        tensor([[ 0.,  3.,  0., -1.]])
    """
    dim = check_blocks(x, competitors, dim)
    check_choice("mode", mode, ("sample", "argmax", "relaxed"))
    check_temperature(temperature)
    if competitors == 1:
        return x
    # an exported program runs where there may be no compiler
    compiled = torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()
    number, annealed = _as_argument(temperature)
    seed = _seed_for(x, mode, seed)
    return kernels.transformable_lwta(x, competitors, mode, number, dim, seed, compiled, annealed)


def expected(x: Tensor, competitors: int, *, dim: int | None = None) -> Tensor:
    """Return the mean of `lwta` over all draws: each response times its probability to win, softmax(h)·h.

    The output is not sparse. As deterministic evaluation of a network trained with sampled winners it can serve better
    than argmax, which turns every response that is a little ahead into a certain winner (benchmarks: README). Plain
    PyTorch.

    Args:
        x: responses, as in `lwta`.
        competitors: U ≥ 1, must divide ``x.shape[dim]``.
        dim: axis that competes; None means 1 for a 4-D input, else −1.

    Returns:
        Shape and dtype of ``x``; the softmax is float32 or wider. A response of −inf gives 0; a block of nothing else,
        or with NaN, gives NaN.

    Raises:
        TypeError: ``x`` is not a dense tensor of floating-point numbers, or ``competitors`` not an int.
        ValueError: ``competitors`` or ``dim`` is out of range.

    Example:
        >>> expected(torch.tensor([[0.0, 0.0, 3.0, 3.0]]), 2)
        tensor([[0.0000, 0.0000, 1.5000, 1.5000]])
    """
    dim = check_blocks(x, competitors, dim)
    blocks = x.unflatten(dim, (-1, competitors))
    wide = torch.promote_types(x.dtype, torch.float32)
    responses = blocks.masked_fill(blocks == -math.inf, 0.0)  # −inf has no chance to win: 0·(−inf) is 0 here
    return (blocks.softmax(dim + 1, dtype=wide) * responses).to(x.dtype).flatten(dim, dim + 1)


def winners(
    x: Tensor,
    competitors: int,
    *,
    mode: WinnerMode = "sample",
    dim: int | None = None,
    seed: Tensor | None = None,
) -> Winners:
    """Return the winners of the competition of `lwta` in compact form: index and response of each block's winner.

    The same seed gives the same winners as `lwta`. Differentiable in the values, whose gradient goes to the winners.

    Args:
        x: responses, as in `lwta`.
        competitors: U ≥ 1, must divide ``x.shape[dim]``.
        mode: "sample" or "argmax".
        dim: axis that competes; None means 1 for a 4-D input, else −1.
        seed: 0-dim int64 on the device of ``x``; None draws one.

    Returns:
        `Winners` with values and indices of shape (…, B): the axes of ``x`` with the blocks moved last. The index of
        a block with NaN is 0 and its value NaN; those of a block of −inf alone are 0 and −inf.

    Raises:
        TypeError: ``x`` is not a dense tensor of floating-point numbers, ``competitors`` not an int, or ``seed`` not a
            0-dim int64 tensor.
        ValueError: ``competitors``, ``mode`` or ``dim`` is out of range, or ``seed`` is on another device.

    Example:
        >>> winners(torch.tensor([[1.0, 3.0, -2.0, -1.0]]), 2, mode="argmax").values
        tensor([[ 3., -1.]])
    """
    dim = check_blocks(x, competitors, dim)
    check_choice("mode", mode, ("sample", "argmax"))
    values, indices = kernels.transformable_winners(x, competitors, mode, dim, _seed_for(x, mode, seed))
    return Winners(values, indices, competitors)


def linear_winners(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competitors: int,
    *,
    mode: WinnerMode = "sample",
    seed: Tensor | None = None,
) -> Winners:
    """Apply a linear layer and return the `winners` of its output; in one kernel on a GPU, without dense responses.

    Differentiable; the gradient of a value goes to the winner that it belongs to. Under autocast the operands are cast
    to its type, as those of a linear layer are. The kernel serves float16 and bfloat16; float32 takes the library's
    product, then the competition.

    Args:
        x: (…, in_features).
        weight: (B·U, in_features), like that of `nn.Linear`.
        bias: (B·U,) or None.
        competitors: U ≥ 1, must divide ``weight.shape[0]``.
        mode: "sample" or "argmax".
        seed: 0-dim int64 on the device of ``x``; None draws one. The same seed gives the winners of
            ``winners(linear(x, weight, bias), …)`` up to responses that tie within rounding.

    Returns:
        `Winners` with values and indices of shape (…, B).

    Raises:
        TypeError: an operand is not a dense tensor of floating-point numbers, the types of the operands differ,
            ``competitors`` is not an int, or ``seed`` not a 0-dim int64 tensor.
        ValueError: shapes do not fit, ``competitors`` or ``mode`` is out of range, or ``seed`` is on another device.

    Example:
        >>> linear_winners(torch.randn(5, 16), torch.randn(24, 16), None, 12).values.shape
        torch.Size([5, 2])
    """
    check_dense("x", x)
    x, weight, bias = _as_linear_operands(x, weight, bias)
    check_linear(x, x.shape[-1], weight, bias)
    check_width("weight.shape[0]", weight.shape[0], competitors)
    check_choice("mode", mode, ("sample", "argmax"))
    values, indices = kernels.transformable_linear_winners(x, weight, bias, competitors, mode, _seed_for(x, mode, seed))
    return Winners(values, indices, competitors)


def winners_linear(winners: Winners, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to winners: ``linear(winners.to_dense(), weight, bias)`` without the dense input.

    Differentiable in the values, weight and bias, with the same bits each time. Which algorithm runs depends on the
    device, the number of rows and U: see `lwta.kernels.winners_linear`. Under autocast the operands are cast to its
    type.

    Args:
        winners: values and indices of shape (…, B).
        weight: (out_features, B·U).
        bias: (out_features,) or None.

    Returns:
        (…, out_features).

    Raises:
        TypeError: an operand is not a dense tensor of floating-point numbers, the indices are not integers, or the
            types of the operands differ.
        ValueError: shapes do not fit, or the indices are on another device than the values.

    Example:
        >>> w = winners(torch.tensor([[1.0, 3.0, -2.0, -1.0]]), 2, mode="argmax")
        >>> winners_linear(w, torch.ones(1, 4))
        tensor([[2.]])
    """
    check_dense("winners.values", winners.values)
    check_indices("winners.indices", winners.indices, winners.values)
    values, weight, bias = _as_linear_operands(winners.values, weight, bias)
    check_linear(values, values.shape[-1] * winners.competitors, weight, bias)
    return kernels.transformable_winners_linear(values, winners.indices, weight, bias, winners.competitors)


def mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    competitors: int,
    *,
    mode: WinnerMode = "sample",
    temperature: float = 1.67,
    seed: Tensor | None = None,
) -> tuple[Tensor, Winners]:
    """Apply a perceptron with competition, ``linear(lwta(linear(x, weight1, bias1)), weight2, bias2)``.

    Between the layers only the winners are kept. The gradient is that of `lwta`: every competitor learns. Saved for
    backward are ``x``, the winners and the seed; the responses are computed again.

    Args:
        x: (…, in_features).
        weight1: (B·U, in_features).
        bias1: (B·U,) or None.
        weight2: (out_features, B·U).
        bias2: (out_features,) or None.
        competitors: U ≥ 1, must divide ``weight1.shape[0]``.
        mode: "sample" or "argmax".
        temperature: τ > 0 of the gradient.
        seed: 0-dim int64 on the device of ``x``; None draws one.

    Returns:
        Output of shape (…, out_features), and the winners, which carry no gradient of their own.

    Raises:
        TypeError: an operand is not a dense tensor of floating-point numbers, the types of the operands differ,
            ``competitors`` is not an int, or ``seed`` not a 0-dim int64 tensor.
        ValueError: shapes do not fit, ``competitors``, ``mode`` or ``temperature`` is out of range, or ``seed`` is on
            another device.

    Example:
        >>> y, between = mlp(torch.randn(5, 8), torch.randn(24, 8), None, torch.randn(3, 24), None, 12)
        >>> y.shape, between.values.shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """
    check_dense("x", x)
    _, weight2, bias2 = _as_linear_operands(x, weight2, bias2)
    x, weight1, bias1 = _as_linear_operands(x, weight1, bias1)
    check_linear(x, x.shape[-1], weight1, bias1, layer="1")
    check_linear(x, weight1.shape[0], weight2, bias2, layer="2")
    check_width("weight1.shape[0]", weight1.shape[0], competitors)
    check_choice("mode", mode, ("sample", "argmax"))
    check_temperature(temperature)
    number, annealed = _as_argument(temperature)
    seed = _seed_for(x, mode, seed)
    y, values, indices = kernels.transformable_mlp(
        x, weight1, bias1, weight2, bias2, competitors, mode, number, seed, annealed
    )
    return y, Winners(values, indices, competitors)


def _as_linear_operands(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the operands as `torch.nn.functional.linear` has them: in the type of autocast where it is on."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(kind)
    return _lowered(x, dtype), _lowered(weight, dtype), None if bias is None else _lowered(bias, dtype)


def _lowered(operand: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an operand in the type of autocast, which leaves float64 alone."""
    return operand if operand.dtype == torch.float64 else operand.to(dtype)


def kl_to_uniform(x: Tensor, competitors: int, *, dim: int | None = None) -> Tensor:
    """Return the mean over blocks of KL(softmax(h) ‖ uniform) = Σ_u π_u·log π_u + log U, in nats.

    The regulariser of the ELBO (DISCOVER, arXiv 2310.04929): 0 where every competitor is equally likely to win, log U
    where one always does. Differentiable; the sum does not depend on the order of execution.

    Args:
        x: responses, as in `lwta`.
        competitors: U ≥ 1, must divide ``x.shape[dim]``.
        dim: axis that competes; None means 1 for a 4-D input, else −1.

    Returns:
        0-dim, float32 (float64 for float64 input); 0 for an empty input.

    Raises:
        TypeError: ``x`` is not a dense tensor of floating-point numbers, or ``competitors`` not an int.
        ValueError: ``competitors`` or ``dim`` is out of range.

    Example:
        >>> kl_to_uniform(torch.zeros(3, 8), 4)
        tensor(0.)
    """
    return kernels.transformable_kl_to_uniform(x, competitors, check_blocks(x, competitors, dim))


def draw_seed(device: torch.device) -> Tensor:
    """Draw a seed, a 0-dim int64 tensor on ``device``, from the default generator of that device."""
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device=device)


def _seed_for(x: Tensor, mode: str, seed: Tensor | None) -> Tensor | None:
    """Return the seed to use: the given one, checked, or a new one; None where nothing is random."""
    if mode == "argmax":
        return None
    if seed is None:
        return draw_seed(x.device)
    check_seed(seed, x.device)
    return seed


def _as_argument(temperature: float) -> tuple[float, Tensor | None]:
    """Return a temperature as operators take it: a number, or a tensor where a compiled program finds it changing."""
    temperature = float(temperature)
    if torch.compiler.is_dynamo_compiling():
        from torch.fx.experimental.symbolic_shapes import has_static_value  # takes long, and Dynamo has it

        if not has_static_value(temperature):
            return 1.0, torch.ones((), dtype=torch.float64, device="cpu") * temperature
    return temperature, None


# `torch.fx.symbolic_trace` records calls of these as nodes of its graph; a node of `draw_seed` draws at every run.
for _name in ("lwta", "expected", "winners", "linear_winners", "winners_linear", "mlp", "kl_to_uniform", "draw_seed"):
    fx.wrap(_name)
