"""Triton's own launch, without a GPU."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from ptx import PtxError, executing


@triton.jit
def _add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    tl.store(out + at, tl.load(x + at, mask=mask) + tl.load(y + at, mask=mask), mask=mask)


@triton.jit
def _shift(x, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x + at + 1, tl.load(x + at, mask=at < n), mask=at + 1 < n)


@triton.jit
def _increment(x, BLOCK: tl.constexpr):
    tl.store(x, tl.load(x) + 1)


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_sums(target: str, dtype: torch.dtype) -> None:
    x, y = torch.randn(1000).to(dtype), torch.randn(1000).to(dtype)
    with executing(target) as session:
        out = torch.empty_like(x)
        _add[(8,)](x, y, out, 1000, BLOCK=128)
    assert torch.equal(out, x + y)
    (launched,) = session.launches
    assert (launched.name, launched.grid) == ("test_driver._add", (8, 1, 1))


def test_one_launch_after_another_on_both_targets() -> None:
    x = torch.randn(300)
    for target in ("sm_80", "sm_90", "sm_80"):
        with executing(target):
            out = torch.empty_like(x)
            _add[(3,)](x, x, out, 300, BLOCK=128)
            assert torch.equal(out, 2 * x)


def test_a_missing_mask_is_reported() -> None:
    x = torch.randn(100)
    with executing("sm_90"), pytest.raises(PtxError, match="outside every tensor"):
        _add[(1,)](x, x, torch.empty(100), 128, BLOCK=128)


def test_programs_that_use_one_word_are_reported() -> None:
    with executing("sm_90"), pytest.raises(PtxError, match="program"):
        _increment[(4,)](torch.zeros(1), BLOCK=16)


def test_faults_can_be_put_in() -> None:
    x = torch.randn(128)
    with executing("sm_90") as session:
        session.change = lambda text: text.replace("add.f32", "sub.f32")
        out = torch.empty_like(x)
        _add[(1,)](x, 2 * x, out, 128, BLOCK=128)
        assert torch.equal(out, -x)


def test_what_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="target: expected one of sm_80, sm_90, got 'sm_70'"), executing("sm_70"):
        pass


def test_afterwards_all_is_as_before() -> None:
    """Without a GPU, Triton says itself that it cannot launch."""
    before = triton.knobs.runtime.add_stages_inspection_hook
    with pytest.raises(ZeroDivisionError), executing("sm_90"):
        raise ZeroDivisionError
    assert triton.knobs.runtime.add_stages_inspection_hook is before
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="active drivers"):
            _add[(1,)](torch.zeros(128), torch.zeros(128), torch.zeros(128), 128, BLOCK=128)
