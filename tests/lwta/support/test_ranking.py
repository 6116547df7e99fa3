"""Numbers and what they belong to, ordered in one array."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from lwta.support.ranking import NONE, largest, pack, unpack


@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False), st.integers(0, 2**31 - 1)), min_size=1, max_size=20, unique=True
    )
)
def test_packed_numbers_keep_their_order(pairs: list[tuple[float, int]]) -> None:
    values, identities = torch.tensor([v for v, _ in pairs]), torch.tensor([i for _, i in pairs])
    found = [packed for packed in largest(pack(values, identities), len(pairs)) if packed != NONE]
    expected = sorted((pair for pair in pairs if pair[0] != -math.inf), key=lambda pair: (-pair[0], pair[1]))
    assert [tuple(part.item() for part in unpack(packed)) for packed in found] == expected
