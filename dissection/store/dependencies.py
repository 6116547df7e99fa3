"""Everything that a recording depends on, as the manifest of a store holds it: short texts and numbers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lwta.dissection.recording.one_pass import Pass
from lwta.dissection.recording.precision import own_type, resolved
from lwta.dissection.store.code import fingerprint_code
from lwta.dissection.store.fingerprint import (
    CONTENTS,
    fingerprint_architecture,
    fingerprint_probe,
    fingerprint_weights,
)
from lwta.dissection.store.transform_text import describe
from lwta.dissection.words.encoder import Encoder


def depends_on(work: Pass, contents: Mapping[str, str]) -> dict[str, str | int]:
    """Return everything a recording depends on, except the layer names; stored as `parts` in the manifest.

    Args:
        work: the pass that records.
        contents: digests of the images' content, as `fingerprint_images` returns them.

    Raises:
        ValueError: the keys of the probe are not known before its images are read.
    """
    return {
        **network_parts(work.model),
        "transform": describe(work.transform),
        "probe": fingerprint_probe(work.probe),
        "clip": work.clip.fingerprint,
        "pool": work.pool,
        "batch_size": work.batch_size,
        "seed": work.seed,
        "draws": work.draws,
        "precision": resolved(work.precision, work.place, own_type(work.model)),
        **contents,
    }


def network_parts(model: nn.Module) -> dict[str, str]:
    """Return the parts of `depends_on` that belong to the network: its weights, architecture and code."""
    return {
        "weights": fingerprint_weights(model),
        "architecture": fingerprint_architecture(model),
        "code": fingerprint_code(model),
    }


def contents_in(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that `fingerprint_images` made: those about the images' content."""
    return {name: parts[name] for name in CONTENTS.values() if name in parts}


def embedder(parts: Mapping[str, str | int]) -> str:
    """Return the name of whatever embeds the images: the CLIP model and the precision in which it computes."""
    return f"{parts['clip']} in {parts['precision']}"


def known_as(clip: Encoder, recorded: str) -> str:
    """Return the fingerprint by which a store knows an encoder: that of version 0.1.0 if the store has that one."""
    return recorded if recorded == getattr(clip, "legacy_fingerprint", None) else clip.fingerprint
