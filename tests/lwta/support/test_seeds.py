"""Seeds derived from seeds, and generators left as they were."""

from __future__ import annotations

import pytest
import torch

from lwta.support.seeds import derive, seeded


def test_seeds_leave_the_generator_alone() -> None:
    state = torch.get_rng_state()
    draws = []
    for seed, part in ((0, 0), (0, 0), (0, 1), (1, 0)):
        with seeded(derive(seed, part)):
            draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_of_the_cpu_leave_other_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU is seeded"))
    for device in (None, torch.device("cpu")):
        with seeded(3, device):
            found = torch.rand(3)
        assert torch.equal(found, torch.rand(3, generator=torch.Generator().manual_seed(3)))
