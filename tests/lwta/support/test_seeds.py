"""Seeds derived from seeds, and generators left as they were."""

from __future__ import annotations

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
