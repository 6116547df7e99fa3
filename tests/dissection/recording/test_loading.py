"""From samples to batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from lwta.dissection import Probe
from lwta.dissection.recording.loading import Batch, batches
from tests.support.worlds import images, to_tensor


def read(workers: int = 0, **changes: Any) -> list[tuple[int, Batch]]:
    return list(batches(Probe.of(images(11)), to_tensor, None, 4, workers, **changes))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("only", [{0}, {2, 0}, {1, 2}, set()])
def test_any_part_of_the_batches_is_that_part_of_all(workers: int, only: set[int]) -> None:
    every = dict(read())
    assert [len(batch.keys) for batch in every.values()] == [4, 4, 3]
    part = read(workers, only=only)
    assert [number for number, _ in part] == sorted(only)
    for number, batch in part:
        assert batch.keys == every[number].keys
        assert torch.equal(batch.inputs, every[number].inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("only", [{3}, {-1, 0}])
def test_batches_that_there_are_not(only: set[int]) -> None:
    with pytest.raises(ValueError, match=r"only must hold numbers of batches, 0…2, got"):
        read(only=only)


def test_each_image_is_decoded_once_for_both_networks() -> None:
    seen: list[Image.Image] = []

    def transform(image: Image.Image) -> torch.Tensor:
        seen.append(image)
        return to_tensor(image)

    ((_, batch),) = batches(Probe.of(images(3)), transform, transform, 4, 0)
    assert [seen[i] is seen[i + 3] for i in range(3)] == [True] * 3
    assert torch.equal(batch.inputs, batch.clip_inputs)  # type: ignore[arg-type]


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    read()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
def test_pinned_batches() -> None:
    for _, batch in read(2, pin=True):
        assert batch.inputs is not None
        assert batch.inputs.is_pinned()
        assert isinstance(batch, Batch)
