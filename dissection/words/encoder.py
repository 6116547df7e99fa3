"""What dissection asks of CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

UNIT = 1e-4
"""Norms that differ from 1 by less are those of normalised embeddings, rounded."""


class Encoder(Protocol):
    """Images and texts into one space: `ClipEncoder`, or embeddings that were computed before."""

    @property
    def fingerprint(self) -> str:
        """Changes when an image's embedding would: a digest of weights and preprocessing, or of the embeddings."""
        ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor] | None:
        """From a PIL image to the (3, h, w) float32 that is encoded; None when only keys of images are needed."""
        ...

    def check_keys(self, keys: Sequence[str]) -> None:
        """Raise ValueError, counting and naming, if the images of some of these keys cannot be embedded."""

    def to(self, device: torch.device) -> None:
        """Do the computations there."""

    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """(n, d) float32, normalised, on the CPU, of n keys and, where `preprocess` makes them, (n, 3, h, w) images.

        Whoever calls it sees to the result by `checked_embeddings`.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(M, d) float32, normalised, on the CPU; ValueError naming the texts it cannot embed.

        Whoever calls it sees to the result by `checked_embeddings`.
        """
        ...


def checked_embeddings(embeddings: Any, kind: str, owners: Sequence[str]) -> Tensor:
    """The embeddings that an encoder returned, refused if no similarity can be computed with them.

    Rows of another norm than 1 are normalised: all that follows is defined by cosines, which they have as well, and an
    encoder that leaves the last step out is as good as one that does not. A row that is not finite, or zero, has no
    direction, and is refused.

    Args:
        embeddings: what `Encoder.encode_images` or `Encoder.encode_texts` returned.
        kind: "image" or "concept", for messages.
        owners: keys or names of what was embedded, one for each row.

    Returns:
        (n, d) float32, normalised, on the CPU. What is normalised already stays the same in every bit, as does (n, 0),
        of an encoder that stands where embeddings are there already.

    Raises:
        TypeError: it is no tensor of floating-point numbers.
        ValueError: its shape is not (n, d), or some rows have no direction; what they belong to is named.
    """
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        seen = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise TypeError(f"clip must return a tensor of floating-point numbers for {kind}s, got {seen}")
    if embeddings.ndim != 2 or len(embeddings) != len(owners):
        raise ValueError(
            f"clip must return shape ({len(owners)}, d) for {len(owners)} {kind}s, got {tuple(embeddings.shape)}"
        )
    rows = embeddings.detach().cpu().float()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)  # in which no square overflows
    _refuse(~norms.isfinite(), "a value that is not finite", kind, owners)
    if not rows.shape[1]:
        return rows
    _refuse(norms == 0, "the zero vector, which has no direction,", kind, owners)
    unit = (norms - 1).abs() < UNIT
    return rows if unit.all() else torch.where(unit, rows, (rows / norms).float())


def _refuse(bad: Tensor, what: str, kind: str, owners: Sequence[str]) -> None:
    """Raise ValueError if any of (n, 1) is true."""
    named = [owner for owner, is_bad in zip(owners, bad.flatten().tolist(), strict=True) if is_bad]
    if named:
        others = f" and {len(named) - 1} others" if len(named) > 1 else ""
        raise ValueError(f"clip gave {what} for {kind} {named[0]!r}{others}")
