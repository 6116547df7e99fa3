"""Recordings of some of the images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lwta.dissection import SoftWPMI
from lwta.dissection.recording.recording import MemoryRecording
from lwta.dissection.scoring.held_out import Part, is_held_out
from lwta.dissection.similarity import similarities_of
from tests.support.worlds import activations_of, dissected, embedded, in_batches


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
def test_a_part_is_a_recording_of_its_images(competitors: int | None) -> None:
    activations, features = activations_of(competitors, 23), embedded(23, 5)
    mask = torch.rand(23) < 0.5
    keys = {f"{999 - i}" for i in mask.nonzero().flatten().tolist()}
    part = Part(in_batches(activations, features, 7), keys.__contains__)
    alone = in_batches(activations, features, 1)
    alone = MemoryRecording([batch for batch in alone._batches if batch.keys[0] in keys], [], "auto")
    assert (part.keys, part.sorted_keys) == (alone.keys, alone.sorted_keys)
    assert part.top_images("layer", 4) == alone.top_images("layer", 4)
    assert repr(part.win_shares("layer")) == repr(alone.win_shares("layer"))
    text = embedded(6, 5)
    assert torch.equal(*(similarities_of(one, SoftWPMI, text)["layer"].nan_to_num() for one in (part, alone)))


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_more(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert is_held_out(key, large) or not is_held_out(key, small)
    assert not is_held_out(key, 0)
    assert is_held_out(key, 1)


def test_the_share_is_held_out() -> None:
    assert sum(is_held_out(str(i), 0.3) for i in range(10000)) == pytest.approx(3000, abs=150)


def test_a_part_of_a_dissection_names_by_its_own_images() -> None:
    result = dissected()
    part = Part(result.recording, lambda key: key.startswith("red"))
    assert part.wins("act").tolist() == [10, 0, 0, 10]
