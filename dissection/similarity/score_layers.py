"""Similarity scores of all neurons of a recording, computed by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity.base import Similarity
from lwta.support.processes import Group


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
        ValueError: the recording has no shard.
    """
    scores = {}
    for layer in recording.layers if layers is None else layers:
        similarity: Similarity | None = None
        alone = group.world_size == 1
        numbers = group.share(recording.numbers)
        for shard in recording.shards(layer) if alone else recording.some_shards(layer, numbers):
            similarity = make_similarity() if similarity is None else similarity
            similarity.update(shard)
        merged = group.merge(similarity)

        def finish(merged: Similarity | None = merged) -> Tensor:
            if merged is None:
                raise ValueError("there is nothing to score: no shard was taken in")
            return merged.finalize(text_features)

        scores[layer] = group.lead(finish)
    return scores
