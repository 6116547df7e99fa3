"""What similarities return is looked at before it names neurons."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lwta.dissection import dissect
from lwta.dissection.moments.measuring import checked
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import SoftWPMI
from tests.support.processes import together
from tests.support.worlds import ColourNetwork, dissected, embeddings, images, to_tensor

PROBE = images(30)


KEYS = [key for key, _ in PROBE]


class Forgetful(SoftWPMI):
    """Knows no score of one neuron."""

    name = "forgetful"

    def __init__(self, neuron: int = 2, concepts: slice = slice(None)) -> None:
        super().__init__()
        self._place = neuron, concepts

    def finalize(self, text_features: Tensor) -> Tensor:
        scores = super().finalize(text_features)
        scores[self._place] = torch.nan
        return scores


def test_only_dead_neurons_have_no_score() -> None:
    message = "must have a score for every neuron that is not dead, got NaN for 1 of layer 'act': 2$"
    for make in (Forgetful, lambda: Forgetful(2, slice(1, 2))):
        with pytest.raises(ValueError, match=message):
            dissected(similarity=make)
        with pytest.raises(ValueError, match=message):
            dissected().relabel(similarity=make)
    reds = [pair for pair in PROBE if pair[0].startswith("red")]
    only_reds = {
        "layers": ["act"],
        "probe": reds,
        "clip": embeddings(KEYS),
        "concepts": ["a red thing", "a blue thing"],
    }
    keywords = {"transform": to_tensor, "progress": False}
    assert dissect(ColourNetwork(), **only_reds, **keywords, similarity=Forgetful).labels("act")[2].concept is None
    with pytest.raises(ValueError, match="layer 'act': 2"):  # dead against all concepts, or alive
        dissect(ColourNetwork(), **only_reds, **keywords, similarity=lambda: HalfDead())


class HalfDead(SoftWPMI):
    """Has a score of a dead neuron against one concept."""

    name = "half-dead"

    def finalize(self, text_features: Tensor) -> Tensor:
        scores = super().finalize(text_features)
        scores[2, 0] = 1
        return scores


def test_a_neuron_that_was_never_above_zero_may_count_as_dead() -> None:
    """As with "jsd", which asks where a neuron is above 0; after a softmax all would be."""
    network = ColourNetwork()
    with torch.no_grad():
        network.head.bias[1] = -100
    keywords = {
        "clip": embeddings(KEYS),
        "concepts": ["a red thing", "a blue thing"],
        "transform": to_tensor,
        "progress": False,
    }
    found = dissect(network, "head:identity", PROBE, similarity="jsd", **keywords)
    assert [label.concept is None for label in found.labels("head:identity")] == [False, True, False]


def test_scores_of_another_shape_are_refused() -> None:
    class Transposed(SoftWPMI):
        def finalize(self, text_features: Tensor) -> Tensor:
            return super().finalize(text_features)[:, :3]

    message = r"similarity must return shape \(4, 4\), of the neurons of layer 'act' and the concepts, got \(4, 3\)"
    with pytest.raises(ValueError, match=message):
        dissected(similarity=Transposed)


def forgetful_process(rank: int, folder: Path) -> None:
    """One of two processes; what went wrong is written to a file."""
    torch.distributed.init_process_group("gloo")
    try:
        dissected(similarity=Forgetful, store=folder / "store", shard_images=5)
    except Exception as error:
        (folder / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_every_process_refuses_scores_that_are_missing(tmp_path: Path) -> None:
    together(forgetful_process, tmp_path)
    errors = [(tmp_path / f"error-{rank}").read_text() for rank in range(2)]
    assert all(error.startswith("ValueError: similarity must have a score") for error in errors)


def test_a_shard_is_handed_on_as_it_is() -> None:
    recording = dissected().recording
    shard = next(recording.shards("act"))
    assert isinstance(shard, Shard)
    assert checked(recording, shard) is shard
