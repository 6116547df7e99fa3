"""Folds: parts of the probing set that take turns in choosing labels and in judging them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import torch
from torch import Tensor

FOLDS = 8
"""Number of folds: labels are chosen on seven eighths of the images and judged on the eighth left out."""


def fold_of(key: str, folds: int = FOLDS, salt: str = "") -> int:
    """Return the fold of an image, 0…folds − 1: a hash of its key, whatever else is in the probing set.

    Args:
        key: key of the image.
        folds: number of folds.
        salt: text that makes other folds of the same images.

    Example:
        >>> [fold_of(f"{i}.png") for i in range(8)]
        [7, 7, 2, 4, 1, 5, 6, 5]
    """
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, person=b"lwta fold", salt=salt.encode()[:16])
    return int.from_bytes(digest.digest(), "big") % folds


def folds_of(keys: Iterable[str], folds: int = FOLDS, salt: str = "") -> Tensor:
    """Return the fold of each image, (N,) int64, in the order of the keys."""
    return torch.tensor([fold_of(key, folds, salt) for key in keys], dtype=torch.int64)
