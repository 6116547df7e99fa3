"""Activations come back from bytes as they were, to the last bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load

from lwta.dissection.recording.activations import DenseActivations, WinnerActivations
from lwta.dissection.store.packing import join, pack_activations, unpack_activations

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)


def bits(values: torch.Tensor) -> list[int]:
    assert values.dtype == torch.float32
    return values.view(torch.int32).flatten().tolist()


@settings(deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=FLOATS), st.booleans())
def test_dense(array: np.ndarray, halves: bool) -> None:
    values = torch.from_numpy(array)
    values = values.half().float().nan_to_num(posinf=0, neginf=0) if halves else values
    data = pack_activations(DenseActivations(values))
    back = unpack_activations(data)
    assert isinstance(back, DenseActivations)
    assert bits(back.values) == bits(values)
    if halves:
        assert load(data)["values"].dtype == torch.float16


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.data())
def test_winners(won: list[list[bool]], data: st.DataObject) -> None:
    mask = torch.tensor(won)
    count = int(mask.sum())
    values = torch.tensor(data.draw(st.lists(FLOATS, min_size=count, max_size=count)), dtype=torch.float32)
    offset = data.draw(st.sampled_from([0, 300, 70_000]))
    shares = torch.rand(count).clamp_min(0.01)
    activations = WinnerActivations(values, (mask.nonzero()[:, 1] + offset).int(), shares, mask.sum(1), 3 + offset, 1)
    back = unpack_activations(pack_activations(activations))
    assert isinstance(back, WinnerActivations)
    assert bits(back.values) == bits(values)
    assert bits(back.shares) == bits(shares)
    assert back.neurons == activations.neurons
    for name in ("units", "counts"):
        before, after = getattr(activations, name), getattr(back, name)
        assert after.dtype == before.dtype
        assert torch.equal(after, before)


def test_types_are_the_smallest() -> None:
    winners = WinnerActivations(
        torch.ones(2), torch.tensor([0, 255]).int(), torch.ones(2), torch.tensor([1, 1]), 256, 256
    )
    tensors = load(pack_activations(winners))
    assert {name: tensor.dtype for name, tensor in tensors.items() if name not in ("neurons", "competitors")} == {
        "values": torch.float16,
        "units": torch.uint8,
        "shares": torch.float16,
        "counts": torch.uint8,
    }


def test_nothing() -> None:
    assert join([]) is None
    assert unpack_activations(pack_activations(None)) is None


def test_join_is_one_after_the_other() -> None:
    dense = [DenseActivations(torch.randn(n, 3)) for n in (2, 1)]
    joined = join([*dense])
    assert joined is not None
    assert torch.equal(joined.dense(), torch.cat([part.values for part in dense]))


def test_strides_do_not_matter() -> None:
    for values in (torch.randn(3, 4).T, torch.ones(3, 4).T):
        back = unpack_activations(pack_activations(DenseActivations(values)))
        assert back is not None
        assert torch.equal(back.dense(), values)
