"""Heat maps over images."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from lwta.dissection.explaining.heat_map import overlaid, positions


@pytest.mark.parametrize(
    ("length", "prefix", "side"), [(16, None, 4), (17, None, 4), (17, 1, 4), (18, 2, 4), (15, None, 0)]
)
def test_tokens_lie_on_a_grid(length: int, prefix: int | None, side: int) -> None:
    tokens = torch.arange(length * 3.0).view(1, length, 3)
    maps = positions(tokens, prefix)
    if not side:
        assert maps is None
    else:
        assert maps is not None
        assert maps.shape == (3, side, side)
        assert torch.equal(maps[2].flatten(), tokens[0, -(side**2) :, 2])


def test_red_is_positive_and_blue_negative() -> None:
    picture = overlaid(Image.new("RGB", (8, 8)), torch.tensor([[1.0, 0.0], [0.0, -1.0]]), 64)
    first, last, between = picture.getpixel((2, 2)), picture.getpixel((61, 61)), picture.getpixel((61, 2))
    assert first[0] > 120 > first[2]
    assert last[2] > 100 > last[0]
    assert max(between) == 0
