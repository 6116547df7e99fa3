"""Heat maps: pictures of where a neuron is active."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

POSITIVE, NEGATIVE = (214, 48, 39), (33, 102, 172)  # red and blue that colour-blind readers can distinguish
STRONGEST = 0.75  # opacity of the largest value
FADED = 0.35  # share that stays of the picture's own colours, so that those of the map stand out


def seen(inputs: Tensor) -> Image.Image | None:
    """Return the input of a network, (1, C, h, w), as a picture: its smallest value black, its largest white.

    Whatever the preprocessing cut away is missing here too, so that maps of positions fit. It is None unless C is 1 or
    3.
    """
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    pixels = inputs[0].detach().float().cpu()
    low, high = pixels.aminmax()
    pixels = ((pixels - low) / (high - low).clamp_min(1e-12) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).expand(-1, -1, 3).contiguous().numpy())


def positions(output: Tensor, prefix: int | None) -> Tensor | None:
    """Return the output of a layer for one image by neuron and position, (D, h, w).

    Args:
        output: (1, h, w, D), or tokens (1, L, D).
        prefix: number of tokens before those of the grid; None if it is not known: then none or one, whichever leaves a
            square.

    Returns:
        The maps; None if there are no positions, or the tokens form no square.
    """
    if output.ndim == 4:
        return output[0].movedim(-1, 0)
    if output.ndim != 3:
        return None
    length = output.shape[1]
    for before in (0, 1) if prefix is None else (prefix,):
        side = math.isqrt(max(length - before, 0))
        if side and side**2 == length - before:
            return output[0, before:].T.reshape(-1, side, side)
    return None


def overlaid(picture: Image.Image, where: Tensor, size: int) -> Image.Image:
    """Return the picture with the map ``where`` (h, w) over it, ``size`` pixels on the longer side."""
    scale = size / max(picture.size)
    shape = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    small = max(picture.size) < size // 4  # the pixels of a tiny picture are shown unsmoothed
    base = np.asarray(picture.convert("RGB").resize(shape, _NEAREST if small else _SMOOTH), dtype=np.float32)
    grey = base.mean(2, keepdims=True)
    base = grey + FADED * (base - grey)
    strength = np.asarray(Image.fromarray(where.float().cpu().numpy()).resize(shape, _SMOOTH))
    strength = strength / max(float(where.abs().max()), 1e-12)
    opacity = STRONGEST * np.abs(strength)[:, :, None].clip(0, 1)
    colour = np.where(strength[:, :, None] < 0, NEGATIVE, POSITIVE)
    return Image.fromarray((base * (1 - opacity) + colour * opacity).round().astype(np.uint8))


_NEAREST, _SMOOTH = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


def prefix_tokens(model: torch.nn.Module) -> int | None:
    """Return the number of tokens before those of the image's grid, if the model has it, as timm's do; else None."""
    prefix = getattr(model, "num_prefix_tokens", None)
    return prefix if isinstance(prefix, int) else None
