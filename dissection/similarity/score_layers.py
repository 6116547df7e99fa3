"""Similarity scores of all neurons of a recording, computed by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lwta.dissection.moments.measuring import checked, moments_of
from lwta.dissection.moments.sums import parts_of
from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity.base import FromMoments, Similarity
from lwta.dissection.similarity.registry import similarity_of_layer
from lwta.support.processes import Group


def similarities_of(
    recording: Recording,
    similarity: str | Callable[[], Similarity],
    text_features: Tensor,
    *,
    layers: Sequence[str] | None = None,
    group: Group = Group(),  # noqa: B008 (immutable)
) -> dict[str, Tensor]:
    """Score every neuron of some layers against every concept.

    Args:
        recording: activations and embeddings of the probing set.
        similarity: as in `find_similarity`.
        text_features: (M, d) float32 normalised text embeddings.
        layers: names of the layers to score; None for all of the recording.
        group: processes that share the shards; the result is returned in all of them.

    Returns:
        Scores by layer, each (D, M) float32 on the CPU; NaN for dead neurons and, where similarities compare
        deviations, for constant ones.

    Raises:
        ValueError: the recording has no shard, a recorded embedding is not finite, or a neuron that is not
            dead has no score.
    """
    scores = {}
    for layer in recording.layers if layers is None else layers:
        make_similarity = similarity_of_layer(similarity, recording, layer)
        one = make_similarity()
        if isinstance(one, FromMoments):
            moments = moments_of(recording, layer, group=group)
            check_width(moments.products.shape[-1], text_features)
            scores[layer] = group.lead(partial(one.scores, moments.statistics(), text_features.cpu()))
        else:
            (scores[layer],) = accumulated(recording, layer, make_similarity, text_features, group=group)
    return scores


def accumulated(
    recording: Recording,
    layer: str,
    make_similarity: Callable[[], Similarity],
    text_features: Tensor,
    *,
    folds: Tensor | None = None,
    group: Group = Group(),  # noqa: B008 (immutable)
) -> list[Tensor]:
    """Score the neurons of a layer by a similarity that has to see the images, in one pass over them.

    Args:
        recording: activations and embeddings of the probing set.
        layer: key of the layer.
        make_similarity: callable that makes a fresh accumulator.
        text_features: (M, d) float32 normalised text embeddings.
        folds: (N,) int64, for each rank the number of the part that its image belongs to; None for one part.
        group: processes that share the shards; the result is returned in all of them.

    Returns:
        Scores (D, M) by all images; then, if there are several parts, by all images but those of part 0, of part 1, ….
        None of the parts may hold all images.

    Raises:
        ValueError: the recording has no shard, a recorded embedding is not finite, or a neuron that is not
            dead has no score.
    """
    parts: list[Similarity | None] = [None] * (1 if folds is None else int(folds.max()) + 1)
    numbers = group.share(recording.numbers)
    alone = group.world_size == 1
    for shard in recording.shards(layer) if alone else recording.some_shards(layer, numbers):
        check_width(shard.features.shape[1], text_features)
        for part in parts_of(checked(recording, shard), folds):
            similarity = parts[part.fold] = parts[part.fold] or make_similarity()
            similarity.update(part.shard)
    merged = [group.merge(part) for part in parts]

    def finish() -> list[Tensor]:
        whole = _scores_without(merged, None, make_similarity, text_features)
        _check_scores(recording, layer, whole, text_features)
        left_out = range(len(parts)) if len(parts) > 1 else ()
        return [whole, *(_scores_without(merged, part, make_similarity, text_features) for part in left_out)]

    return group.lead(finish)


def _scores_without(
    parts: Sequence[Similarity | None],
    left_out: int | None,
    make_similarity: Callable[[], Similarity],
    text_features: Tensor,
) -> Tensor:
    """Scores by the images of all parts but one, or of all."""
    kept = [part for number, part in enumerate(parts) if part is not None and number != left_out]
    if not kept:
        raise ValueError("there is nothing to score: no shard was taken in")
    if len(kept) == 1:
        return kept[0].finalize(text_features)
    similarity = make_similarity()
    for part in kept:
        similarity.merge(part)
    return similarity.finalize(text_features)


def check_width(numbers: int, text_features: Tensor) -> None:
    """Check that images and concepts are embedded alike.

    Raises:
        ValueError: their embeddings have different widths.
    """
    if numbers != text_features.shape[1]:
        raise ValueError(
            f"clip must embed images and concepts alike, got {numbers} numbers for each image and "
            f"{text_features.shape[1]} for each concept"
        )


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
