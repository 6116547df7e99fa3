"""Checkpoints that a full disk or a broken download cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lwta import load_checkpoint


def test_a_checkpoint_of_any_length_is_refused_in_words_that_name_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(64, 64).state_dict(), path)
    data = path.read_bytes()
    for length in (0, 1, 100, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"weights\.pt is no file of weights alone"):
            load_checkpoint(nn.Linear(64, 64), path)
