"""Argument checks, whose errors all name the argument, the value seen and the value expected."""

from __future__ import annotations

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_dense(name: str, x: Tensor) -> None:
    """Raise TypeError unless ``x`` is a plain tensor of one of the four types, with strides and storage of its own."""
    if not isinstance(x, Tensor) or x.dtype not in _DTYPES:
        seen = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a tensor of float32, float16, bfloat16 or float64, got {seen}")
    if x.layout is not torch.strided or x.is_nested:
        kind = "nested " if x.is_nested else ""
        raise TypeError(f"{name} must be a dense tensor, got a {kind}tensor of layout {x.layout}; see Tensor.to_dense")
    _check_local(name, x)


def _check_local(name: str, x: Tensor) -> None:
    """Raise TypeError for a DTensor, which the operators have no sharding strategy for."""
    if hasattr(x, "device_mesh"):
        raise TypeError(f"{name} must be a plain tensor, got a {type(x).__name__}; see its to_local and full_tensor")


def check_indices(name: str, indices: Tensor, values: Tensor) -> None:
    """Raise unless ``indices`` are plain integers, of the shape and on the device of ``values``.

    Raises:
        TypeError: they are not.
        ValueError: they have another shape or are on another device.
    """
    if not isinstance(indices, Tensor) or indices.dtype == torch.bool or indices.dtype.is_floating_point:
        seen = f"a tensor of {indices.dtype}" if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(f"{name} must be a tensor of integers, got {seen}")
    _check_local(name, indices)
    if indices.shape != values.shape or indices.device != values.device:
        raise ValueError(
            f"{name} must have the shape and device of the values, {tuple(values.shape)} on {values.device}, got "
            f"{tuple(indices.shape)} on {indices.device}"
        )


def check_blocks(x: Tensor, competitors: int, dim: int | None) -> int:
    """Return the non-negative number of the axis that competes, having checked that blocks fill it.

    Raises:
        TypeError: ``x`` is not a dense tensor of floating-point numbers, or ``competitors`` not an int.
        ValueError: ``dim`` is not an axis of ``x``, or ``competitors`` is below 1 or does not divide that axis.
    """
    check_dense("x", x)
    check_competitors(competitors)
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension, got a 0-dim tensor")
    if dim is None:
        dim = 1 if x.ndim == 4 else -1
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"dim must lie in [{-x.ndim}, {x.ndim - 1}] for x of shape {tuple(x.shape)}, got {dim}")
    if x.shape[dim] == 0 or x.shape[dim] % competitors:
        raise ValueError(
            f"competitors must divide the competing axis: got competitors={competitors} for axis {dim} of x with "
            f"shape {tuple(x.shape)}, that is {x.shape[dim]} units"
        )
    return dim % x.ndim


def check_competitors(competitors: int) -> None:
    """Raise TypeError unless ``competitors`` is an int, and ValueError unless it is at least 1."""
    if not isinstance(competitors, int) or isinstance(competitors, bool):
        raise TypeError(f"competitors must be an int, got {type(competitors).__name__}")
    if competitors < 1:
        raise ValueError(f"competitors must be at least 1, got {competitors}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_width(name: str, width: int, competitors: int) -> None:
    """Raise ValueError unless ``competitors`` divides ``width``; it is itself checked by `check_competitors`."""
    check_competitors(competitors)
    if width % competitors:
        raise ValueError(f"competitors must divide {name}: got competitors={competitors}, {name}={width}")


def check_linear(x: Tensor, features: int, weight: Tensor, bias: Tensor | None, layer: str = "") -> None:
    """Raise unless ``weight`` (out, features) and ``bias`` (out,) can be applied to rows of ``features`` like ``x``.

    ``layer`` is what their names end in.

    Raises:
        TypeError: ``weight`` or ``bias`` is not a dense tensor of floating-point numbers, or not of the type of ``x``.
        ValueError: the shapes do not fit.
    """
    check_dense(f"weight{layer}", weight)
    if bias is not None:
        check_dense(f"bias{layer}", bias)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have a last axis of at least one feature, got shape {tuple(x.shape)}")
    if weight.ndim != 2 or weight.shape[1] != features:
        raise ValueError(f"weight{layer} must have shape (out_features, {features}), got {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias{layer} must have shape ({weight.shape[0]},), got {tuple(bias.shape)}")
    for name, operand in (("weight", weight), ("bias", bias)):
        if operand is not None and operand.dtype != x.dtype:
            raise TypeError(f"{name}{layer} must have the type of x, {x.dtype}, got {operand.dtype}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless ``temperature`` and its inverse are positive and finite in float32."""
    # Comparisons with constants alone, which `torch.compile` traces once for all temperatures.
    lowest, highest = 2.0**-126, 2.0**126  # between these 1/τ is finite, and not 0, in float32
    if not lowest <= temperature <= highest:
        raise ValueError(
            f"temperature must be positive and finite, got {temperature}; it ranges from {lowest:.1e} to {highest:.1e}"
        )


def check_eval_mode(eval_mode: str) -> None:
    """Raise ValueError unless ``eval_mode`` is "sample", "argmax" or "expected"."""
    check_choice("eval_mode", eval_mode, ("sample", "argmax", "expected"))


def check_seed(seed: Tensor, device: torch.device) -> None:
    """Raise TypeError unless ``seed`` is a 0-dim int64 tensor, and ValueError unless it is on ``device``."""
    if not isinstance(seed, Tensor) or seed.dtype != torch.int64 or seed.ndim != 0:
        seen = f"{tuple(seed.shape)} {seed.dtype}" if isinstance(seed, Tensor) else repr(seed)
        raise TypeError(f"seed must be a 0-dim int64 tensor such as torch.tensor(7), got {seen}")
    _check_local("seed", seed)
    if seed.device != device:
        raise ValueError(f"seed must be on the device of x, {device}, got {seed.device}")
