"""Choice of the labels of a recording's neurons, by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from lwta.dissection.moments.folds import FOLDS
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.moments.moments import Moments
from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity import FromMoments, Similarity, Words, similarity_of_layer
from lwta.dissection.similarity.score_layers import accumulated, check_width
from lwta.dissection.trust.cross_validation import CrossValidated, LeftOut, Trust, cross_validated
from lwta.support.processes import Group

PAIRS = 2
"""Folds that are left out together by similarities that have to see the images, each time costing as much as all."""


class Chosen(NamedTuple):
    """Labels of the D neurons of a layer, before it is decided which are shown."""

    similarity: str
    """Name of the similarity that chose them."""
    scores: Tensor
    """Similarity of every neuron with every concept, (D, M) float32; NaN for dead and constant neurons."""
    words: Words
    """Words of every neuron."""
    trust: Trust
    """Figures of the words on images by which they were not chosen."""
    left_out: list[LeftOut]
    """Words as they were chosen without some of the images, for further figures on these."""

    def words_of(self, neuron: int) -> list[tuple[int, float]]:
        """Return index and weight of each of a neuron's words."""
        concepts, weights = (part[neuron].tolist() for part in self.words)
        return [(concept, weight) for concept, weight in zip(concepts, weights, strict=True) if concept >= 0]


def choose(
    recording: Recording,
    similarity: str | Callable[[], Similarity],
    text_features: Tensor,
    *,
    layers: Sequence[str] | None = None,
    group: Group = Group(),  # noqa: B008 (immutable)
) -> dict[str, Chosen]:
    """Choose the labels of all neurons of some layers, and judge them on images left out.

    Args:
        recording: activations and embeddings of the probing set.
        similarity: as in `lwta.dissection.similarity.find_similarity`.
        text_features: (M, d) float32 normalised text embeddings.
        layers: keys of the layers; None for all of the recording.
        group: processes that share the shards; the result is returned in all of them.

    Raises:
        ValueError: as in `lwta.dissection.similarity.similarities_of`.
    """
    found = {}
    for layer in recording.layers if layers is None else layers:
        make_similarity = similarity_of_layer(similarity, recording, layer)
        moments = moments_of(recording, layer, group=group)
        check_width(moments.products.shape[-1], text_features)
        one = make_similarity()
        if isinstance(one, FromMoments):
            found[layer] = group.lead(partial(choose_by_moments, one, moments, text_features.cpu()))
        else:
            found[layer] = _choose_by_images(recording, layer, make_similarity, moments, text_features, group)
    return found


def choose_by_moments(similarity: FromMoments, moments: Moments, text_features: Tensor) -> Chosen:
    """Choose and judge the labels of a layer by its moments alone.

    Args:
        similarity: one that needs no more.
        moments: moments of the layer by fold.
        text_features: (M, d) float32 normalised text embeddings.
    """
    scores = similarity.scores(moments.statistics(), text_features)
    judged = cross_validated(
        moments, lambda folds: similarity.paths(moments.statistics(folds), text_features), text_features
    )
    return Chosen(similarity.name, scores, *judged)


def _choose_by_images(
    recording: Recording,
    layer: str,
    make_similarity: Callable[[], Similarity],
    moments: Moments,
    text_features: Tensor,
    group: Group,
) -> Chosen:
    """Choose labels by a similarity that sees all images, and once more without each pair of folds."""
    pairs = [[fold for fold in moments.folds if fold // PAIRS == pair] for pair in range(FOLDS // PAIRS)]
    groups = [pair for pair in pairs if pair]
    scores, *without = accumulated(
        recording,
        layer,
        make_similarity,
        text_features,
        moments=moments,
        left_out=groups if len(groups) > 1 else (),
        group=group,
    )
    by_training = {
        tuple(fold for fold in moments.folds if fold not in pair): left
        for pair, left in zip(groups, without, strict=bool(without))
    }

    def explain(folds: Sequence[int]) -> list[Words]:
        return [Words.single(by_training.get(tuple(folds), scores))]

    def judge() -> CrossValidated:
        return cross_validated(moments, explain, text_features.cpu(), groups)

    return Chosen(make_similarity().name, scores, *group.lead(judge))
