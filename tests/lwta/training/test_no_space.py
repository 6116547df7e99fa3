"""What a training and a saved network do where the disk is full, or files may not grow."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lwta import create_model, save_model
from lwta.training.state import save_state


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_is_named_and_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state({"model": torch.zeros(3)}, path)
    before = path.read_bytes()
    for size in (0, 100, 10_000):  # of which the last is met at the end
        with largest_file(size), pytest.raises(OSError, match=r"File too large: .*checkpoint\.pt'"):
            save_state({"model": torch.zeros(100, 1000)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_weights_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(OSError, match=r"model\.safetensors cannot be written: .*File too large"):
        save_model(create_model("resnet20", num_classes=3), tmp_path)
    assert not list(tmp_path.iterdir())
