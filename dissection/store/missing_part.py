"""Passes over the probe that record only what a store lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lwta.dissection.recording.one_pass import Pass


@dataclass(frozen=True)
class Job:
    """Shard of which something is missing, and what that is."""

    shard: int
    """Number of the shard."""
    layers: tuple[str, ...]
    """Names of the layers whose activations are missing."""
    images: bool
    """Whether the embeddings of the shard's images are missing."""


def only_missing(work: Pass, job: Job, batch_size: int) -> Pass:
    """Return the pass that records what the job asks for and nothing else.

    Without missing layers the network does not run, and without missing embeddings CLIP does not.
    """
    changes: dict[str, Any] = {"batch_size": batch_size, "device": work.place, "layers": job.layers}
    if not job.images:
        changes["clip"] = _NoClip()
    if not job.layers:
        idle = nn.Sequential(nn.Identity())
        changes |= {"model": idle, "layers": ["0"], "transform": _nothing, "pool": "mean", "draws": 1, "compile": False}
    return replace(work, **changes)


def _nothing(image: Image.Image) -> Tensor:
    """Return the input of the idle network, which looks at no image."""
    return torch.zeros(1)


class _NoClip:
    """Encoder for images whose embeddings are stored already; no image is preprocessed for it."""

    fingerprint = ""
    preprocess: Callable[[Image.Image], Tensor] | None = None

    def check_keys(self, keys: Sequence[str]) -> None:
        """Accept any keys."""

    def to(self, device: torch.device) -> None:
        """Do nothing: there is nothing to compute."""

    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """Return embeddings without features, (n, 0)."""
        return torch.empty(len(keys), 0)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings without features, (M, 0)."""
        return torch.empty(len(texts), 0)
