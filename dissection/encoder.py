"""What dissection asks of CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor


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
        """(n, d) float32, normalised, on the CPU, of n keys and, where `preprocess` makes them, (n, 3, h, w) images."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(M, d) float32, normalised, on the CPU; ValueError naming the texts it cannot embed."""
        ...
