"""Similarity scores of all neurons of a recording, computed by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lwta.dissection.recording.recording import Recording, Shard
from lwta.dissection.similarity.base import Similarity
from lwta.support.processes import Group
from lwta.support.text import some


def similarities_of(
    recording: Recording,
    make_similarity: Callable[[], Similarity],
    text_features: Tensor,
    *,
    layers: Sequence[str] | None = None,
    group: Group = Group(),  # noqa: B008 (immutable)
) -> dict[str, Tensor]:
    """Score every neuron of some layers against every concept.

    Args:
        recording: activations and embeddings of the probing set.
        make_similarity: callable that makes a fresh accumulator.
        text_features: (M, d) float32 normalised text embeddings.
        layers: names of the layers to score; None for all of the recording.
        group: processes that share the shards; the result is returned in all of them.

    Returns:
        Scores by layer, each (D, M) float32 on the CPU; NaN for dead neurons.

    Raises:
        ValueError: the recording has no shard, a recorded embedding is not finite, or a neuron that is not
            dead has no score.
    """
    scores = {}
    for layer in recording.layers if layers is None else layers:
        similarity: Similarity | None = None
        alone = group.world_size == 1
        numbers = group.share(recording.numbers)
        for shard in recording.shards(layer) if alone else recording.some_shards(layer, numbers):
            similarity = make_similarity() if similarity is None else similarity
            similarity.update(_checked(recording, shard, text_features))
        merged = group.merge(similarity)

        def finish(layer: str = layer, merged: Similarity | None = merged) -> Tensor:
            if merged is None:
                raise ValueError("there is nothing to score: no shard was taken in")
            found = merged.finalize(text_features)
            _check_scores(recording, layer, found, text_features)
            return found

        scores[layer] = group.lead(finish)
    return scores


def _checked(recording: Recording, shard: Shard, text_features: Tensor) -> Shard:
    """Return the shard if its embeddings fit and are finite, else raise: stores of older versions may hold others."""
    features, numbers = shard.features, text_features.shape[1]
    if features.shape[1] != numbers:
        raise ValueError(
            f"clip must embed images and concepts alike, got {features.shape[1]} numbers for each image and "
            f"{numbers} for each concept"
        )
    bad = shard.ranks[~features.isfinite().all(1)].tolist()
    if bad:
        names = some([recording.sorted_keys[rank] for rank in bad])
        raise ValueError(
            f"recorded embeddings must be finite, those of {len(bad)} images are not: {names}; see to the encoder, "
            "and record the images anew, into another store if it was one"
        )
    return shard


def _check_scores(recording: Recording, layer: str, scores: Tensor, text_features: Tensor) -> None:
    """Raise unless every neuron of a layer that is not dead has scores, whatever similarity made them.

    A dead neuron has NaN against all concepts. A neuron that was never above 0 may count as dead.
    """
    active = recording.active(layer)
    if scores.shape != (len(active), len(text_features)):
        raise ValueError(
            f"similarity must return shape ({len(active)}, {len(text_features)}), of the neurons of layer "
            f"{layer!r} and the concepts, got {tuple(scores.shape)}"
        )
    missing = scores.isnan()
    wrong = missing.any(1) & (active | ~missing.all(1))
    if wrong.any():  # seldom, as it takes a pass over the layer
        wrong &= _ever_positive(recording, layer) | ~missing.all(1)
    neurons = wrong.nonzero().flatten().tolist()
    if neurons:
        raise ValueError(
            f"similarity must have a score for every neuron that is not dead, got NaN for {len(neurons)} of layer "
            f"{layer!r}: {', '.join(map(str, neurons[:5]))}{', …' if len(neurons) > 5 else ''}"
        )


def _ever_positive(recording: Recording, layer: str) -> Tensor:
    """Mask (D,) of the neurons that were above 0 on any image."""
    positive = torch.zeros((), dtype=torch.bool)
    for shard in recording.shards(layer):
        positive = positive | (shard.activations.dense() > 0).any(0)
    return positive
