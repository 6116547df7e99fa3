"""Interface of the encoders that dissection uses, and the check of the embeddings that they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

UNIT = 1e-4
"""Largest difference from 1 of the norm of an embedding that counts as normalised; rounding causes smaller ones."""


class Encoder(Protocol):
    """Encoder that embeds images and texts in one space: `ClipEncoder`, `Embeddings`, or one of the user's own."""

    @property
    def fingerprint(self) -> str:
        """Digest of weights and preprocessing, or of embeddings: it changes whenever an image's embedding would."""
        ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor] | None:
        """Preprocessing of a PIL image to the (3, h, w) float32 that is encoded; None when only keys are needed."""
        ...

    def check_keys(self, keys: Sequence[str]) -> None:
        """Check that the images with these keys can be embedded.

        Raises:
            ValueError: some cannot; they are counted and named.
        """

    def to(self, device: torch.device) -> None:
        """Move the computations to a device."""

    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """Return the embeddings of n images, (n, d) float32, normalised, on the CPU.

        Callers pass the result through `checked_embeddings`.

        Args:
            keys: n keys.
            images: preprocessed images, (n, 3, h, w); None if `preprocess` is None.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of M texts, (M, d) float32, normalised, on the CPU.

        Callers pass the result through `checked_embeddings`.

        Raises:
            ValueError: some texts cannot be embedded; they are named.
        """
        ...


def checked_embeddings(embeddings: Any, kind: str, owners: Sequence[str]) -> Tensor:
    """Check the embeddings that an encoder returned, and return them normalised.

    Rows with another norm than 1 are normalised, since similarities are defined by cosines: an encoder may leave that
    last step out. A row that is zero or not finite has no direction, and is refused.

    Args:
        embeddings: result of `Encoder.encode_images` or `Encoder.encode_texts`.
        kind: "image" or "concept", for messages.
        owners: keys or names of what was embedded, one for each row.

    Returns:
        Embeddings, (n, d) float32, normalised, on the CPU. Rows that are normalised already stay the same in every bit.
        Embeddings without features, (n, 0), are returned as they are: where embeddings are stored already, a stand-in
        for the encoder returns these.

    Raises:
        TypeError: ``embeddings`` is no tensor of floating-point numbers.
        ValueError: its shape is not (n, d), or some rows have no direction; their owners are named.
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
    """Raise ValueError, naming the owners, if the mask ``bad`` (n, 1) is true anywhere."""
    named = [owner for owner, is_bad in zip(owners, bad.flatten().tolist(), strict=True) if is_bad]
    if named:
        others = f" and {len(named) - 1} others" if len(named) > 1 else ""
        raise ValueError(f"clip gave {what} for {kind} {named[0]!r}{others}")
