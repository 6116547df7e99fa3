"""Outputs that are left out in part, and memory that is read before it is written."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from ptx import PtxError, executing


@triton.jit
def _copy(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)


def test_a_whole_output_is_right() -> None:
    x = torch.randn(100)
    with executing("sm_80"):
        y = torch.empty_like(x)
        _copy[(1,)](x, y, 100, BLOCK=128)
        assert torch.equal(y, x)
        assert torch.equal(y.view(10, 10).t().contiguous(), x.view(10, 10).t())


def test_pytorch_reads_what_the_kernel_left_out() -> None:
    x = torch.randn(100)
    with executing("sm_80"):
        y = torch.empty_like(x)
        _copy[(1,)](x, y, 97, BLOCK=128)
        assert torch.equal(y[:97], x[:97])
        with pytest.raises(PtxError, match="12 of its bytes"):
            y.sum()
        del y


def test_a_kernel_reads_what_nothing_has_written() -> None:
    with executing("sm_80"), pytest.raises(PtxError, match="nothing has written"):
        _copy[(1,)](torch.empty(100), torch.empty(100), 100, BLOCK=128)


def test_an_output_in_part_when_all_is_over() -> None:
    kept = []

    def leave_a_part_out() -> None:
        with executing("sm_80"):
            kept.append(torch.empty(100))
            _copy[(1,)](torch.randn(100), kept[0], 97, BLOCK=128)

    with pytest.raises(PtxError, match="an output of 400 bytes, 12 of which"):
        leave_a_part_out()


def test_memory_that_pytorch_writes_counts_as_written() -> None:
    with executing("sm_80"):
        x, y = torch.empty(100), torch.empty(10, 10)
        x[:50].fill_(1.0)
        x[50:].copy_(torch.arange(50.0))
        _copy[(1,)](x, y, 100, BLOCK=128)
        assert y.flatten()[99] == 49
