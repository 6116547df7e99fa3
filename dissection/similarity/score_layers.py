"""Similarity scores of all neurons of a recording, computed by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lwta.dissection.moments.folds import FOLDS, folds_of
from lwta.dissection.moments.measuring import checked, moments_of
from lwta.dissection.moments.moments import Moments
from lwta.dissection.moments.sums import parts_of
from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity.base import BesideMoments, FromMoments, Similarity
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
        one, moments = make_similarity(), None
        if isinstance(one, (FromMoments, BesideMoments)):
            moments = moments_of(recording, layer, group=group)
            check_width(moments.products.shape[-1], text_features)
        if isinstance(one, FromMoments) and moments is not None:
            scores[layer] = group.lead(partial(one.scores, moments.statistics(), text_features.cpu()))
        else:
            (scores[layer],) = accumulated(
                recording, layer, make_similarity, text_features, moments=moments, group=group
            )
    return scores


def accumulated(
    recording: Recording,
    layer: str,
    make_similarity: Callable[[], Similarity],
    text_features: Tensor,
    *,
    moments: Moments | None = None,
    left_out: Sequence[Sequence[int]] = (),
    group: Group = Group(),  # noqa: B008 (immutable)
) -> list[Tensor]:
    """Score the neurons of a layer by a similarity that has to see the images, in one pass over them.

    Args:
        recording: activations and embeddings of the probing set.
        layer: key of the layer.
        make_similarity: callable that makes a fresh accumulator.
        text_features: (M, d) float32 normalised text embeddings.
        moments: moments of the layer, which similarities that are `BesideMoments` need not sum up then; None if they
            are not known.
        left_out: folds that are left out together, by turns; each fold that holds images is in one of several.
        group: processes that share the shards; the result is returned in all of them.

    Returns:
        Scores (D, M) by all images; then by all images but those left out, for each turn.

    Raises:
        ValueError: the recording has no shard, a recorded embedding is not finite, or a neuron that is not
            dead has no score.
    """
    one = make_similarity()
    beside = one if moments is not None and isinstance(one, BesideMoments) else None
    make = make_similarity if beside is None else beside.of_images
    part_of_rank, parts = _parts(recording, left_out), dict[int, Similarity]()
    alone = group.world_size == 1
    for shard in recording.shards(layer) if alone else recording.some_shards(layer, group.share(recording.numbers)):
        check_width(shard.features.shape[1], text_features)
        for number, images in parts_of(checked(recording, shard), part_of_rank):
            if number not in parts:
                parts[number] = make()
            parts[number].update(images)
    merged = [group.merge(parts.get(number)) for number in range(max(len(left_out), 1))]

    def without(turn: int | None) -> Tensor:
        scores = _scores_without(merged, turn, make, text_features)
        if beside is None or moments is None:
            return scores
        folds = None if turn is None else [fold for k, part in enumerate(left_out) if k != turn for fold in part]
        return beside.combined(scores, moments.statistics(folds), text_features.cpu())

    def finish() -> list[Tensor]:
        whole = without(None)
        _check_scores(recording, layer, whole, text_features)
        return [whole, *map(without, range(len(left_out)))]

    return group.lead(finish)


def _parts(recording: Recording, left_out: Sequence[Sequence[int]]) -> Tensor | None:
    """Turn in which the image of each rank is left out, (N,) int64; None where none ever is."""
    if not left_out:
        return None
    turns = torch.full((FOLDS,), -1)
    for turn, folds in enumerate(left_out):
        turns[list(folds)] = turn
    return turns[folds_of(recording.sorted_keys)]


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
