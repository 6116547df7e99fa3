"""Which device a process of torchrun takes for its own."""

from __future__ import annotations

import pytest
import torch

from lwta.support.processes import Group, own_device, process_group


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(("rank", "device"), [(None, "cuda:0"), ("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")])
@pytest.mark.parametrize("asked", [None, "cuda", torch.device("cuda")])
@pytest.mark.usefixtures("two_gpus")
def test_each_process_takes_a_gpu_in_turn(
    rank: str | None, device: str, asked: torch.device | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_device(asked) == torch.device(device)


@pytest.mark.parametrize("asked", ["cpu", "cuda:1"])
@pytest.mark.usefixtures("two_gpus")
def test_the_device_asked_for_is_taken(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert own_device(asked) == torch.device(asked)


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == torch.device("cpu")


def test_a_process_alone_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert group == Group(0, 1)
        assert not torch.distributed.is_initialized()
