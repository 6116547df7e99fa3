"""CLIP embeddings that were computed before, for a dissection without CLIP on the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lwta.support.text import repeated, some

ARRAYS = ("image_paths", "image_features", "concepts", "text_features")


class Embeddings:
    """Encoder that looks embeddings up instead of computing them: of images by key, of texts by name.

    Args:
        keys: N keys of images, as the probe has them.
        image_features: (N, d), any floating-point type; normalised here.
        texts: M concepts or prompts.
        text_features: (M, d), any floating-point type; normalised here.

    Raises:
        ValueError: the shapes do not fit, values are not finite, or a key or text occurs twice.

    Example:
        >>> encoder = Embeddings(["a.png"], torch.tensor([[3.0, 4.0]]), ["cat"], torch.tensor([[1.0, 0.0]]))
        >>> encoder.encode_images(["a.png"], None)
        tensor([[0.6000, 0.8000]])
    """

    preprocess = None
    """Preprocessing: None, as no image is looked at."""

    def __init__(
        self, keys: Sequence[str], image_features: Tensor, texts: Sequence[str], text_features: Tensor
    ) -> None:
        self._images = _checked("image_features", image_features, keys)
        self._texts = _checked("text_features", text_features, texts)
        if self._images.shape[1] != self._texts.shape[1]:
            raise ValueError(
                f"image_features and text_features must have as many columns, got {tuple(image_features.shape)} and "
                f"{tuple(text_features.shape)}"
            )
        self._image_rows = _rows("keys", keys)
        self._text_rows = _rows("texts", texts)

    @classmethod
    def load(cls, embeddings: str | Path | Mapping[str, Any]) -> Embeddings:
        """Load embeddings from an NPZ file or a mapping of arrays.

        Args:
            embeddings: file, or mapping, with the arrays ``image_paths`` (N,), ``image_features`` (N, d), ``concepts``
                (M,) and ``text_features`` (M, d).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no NPZ, or damaged; an array is missing; or the arrays do not fit together, hold
                values that are not finite, or repeat a key or concept.
        """
        where = ""
        if isinstance(embeddings, str | Path):
            embeddings, where = _read(embeddings), f" in {embeddings}"
        missing = [name for name in ARRAYS if name not in embeddings]
        if missing:
            raise ValueError(f"embeddings must have the arrays {some(ARRAYS)}; {some(missing)} missing{where}")
        paths, image_features, concepts, text_features = (embeddings[name] for name in ARRAYS)
        return cls(
            [str(path) for path in paths],
            torch.as_tensor(image_features),
            [str(concept) for concept in concepts],
            torch.as_tensor(text_features),
        )

    @property
    def concepts(self) -> tuple[str, ...]:
        """Texts that have an embedding."""
        return tuple(self._text_rows)

    @property
    def fingerprint(self) -> str:
        """Digest of the image embeddings and their keys; it stays the same when texts are added."""
        return _digest((self._image_rows, self._images))

    @property
    def legacy_fingerprint(self) -> str:
        """Digest that version 0.1.0 used as fingerprint and wrote into stores; it depends on the texts too."""
        return _digest((self._image_rows, self._images), (self._text_rows, self._texts))

    def check_keys(self, keys: Sequence[str]) -> None:
        """Check that all of these keys have an embedding.

        Raises:
            ValueError: some have none; they are counted and named.
        """
        missing = [key for key in keys if key not in self._image_rows]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(keys)} keys of the probe have no image embedding: {some(missing)}; the "
                f"embeddings' keys look like {some(list(self._image_rows), 2)}"
            )

    def to(self, device: torch.device) -> None:
        """Do nothing: embeddings are looked up on the CPU."""

    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """Return the embeddings of the images with these n keys, (n, d) float32, normalised; ``images`` is not used.

        Raises:
            ValueError: some keys have no embedding; they are named.
        """
        self.check_keys(keys)
        return self._images[[self._image_rows[key] for key in keys]]

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of M texts, (M, d) float32, normalised.

        Raises:
            ValueError: some texts have no embedding; they are named.
        """
        missing = [text for text in texts if text not in self._text_rows]
        if missing:
            raise ValueError(f"{len(missing)} of {len(texts)} concepts have no text embedding: {some(missing)}")
        return self._texts[[self._text_rows[text] for text in texts]]

    def __repr__(self) -> str:
        return f"Embeddings({len(self._images)} images, {len(self._texts)} texts, d={self._images.shape[1]})"


def _read(path: str | Path) -> dict[str, Any]:
    """Read the arrays of an NPZ file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NPZ, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # each part of a zip archive and of an array has ways of its own to be damaged
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = str(error).partition(" If you trust")[0] or type(error).__name__  # no advice to unpickle it
        raise ValueError(f"embeddings must be an NPZ file; {path} is none, or damaged: {reason}") from None


def _digest(*parts: tuple[Iterable[str], Tensor]) -> str:
    """Return the digest of embeddings and of the keys or texts that they belong to."""
    digest = hashlib.blake2b(digest_size=16)
    for owners, features in parts:
        digest.update("\0".join(owners).encode())
        digest.update(features.numpy().tobytes())
    return digest.hexdigest()


def _checked(name: str, features: Tensor, owners: Sequence[str]) -> Tensor:
    """Return the features as float32 with normalised rows, one for each owner.

    Raises:
        ValueError: the shape is another, or a value is not finite.
    """
    if features.ndim != 2 or len(features) != len(owners):
        raise ValueError(f"{name} must have shape ({len(owners)}, d), got {tuple(features.shape)}")
    features = features.float()
    bad = (~torch.isfinite(features)).any(1)
    if bad.any():
        named = some([owner for owner, is_bad in zip(owners, bad.tolist(), strict=True) if is_bad])
        raise ValueError(f"{name} must be finite; some values are not, of {named}")
    return normalize(features, dim=-1)


def _rows(name: str, owners: Sequence[str]) -> dict[str, int]:
    """Return the row of each owner; raise ValueError if one occurs twice."""
    twice = repeated(owners)
    if twice:
        raise ValueError(f"{name} must each occur once; {len(twice)} repeated: {some(twice)}")
    return {owner: row for row, owner in enumerate(owners)}
