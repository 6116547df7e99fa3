"""Seeds: random numbers that follow from given numbers, whatever was drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*numbers: int) -> int:
    """Return a seed below 2⁶³ that follows from the numbers; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU whose seed follows from the numbers."""
    return torch.Generator().manual_seed(derive(*numbers))


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy, torch and its devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Context in which torch draws from a seed; afterwards its generators are as they were.

    Args:
        seed: seed below 2⁶³.
        device: CUDA device whose generator is seeded and restored too, beside the CPU's; others have none.
    """
    with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
        if device is None or device.type == "cpu":  # all others would be seeded too, and not restored
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Context in which Python, NumPy and torch on the CPU draw from a seed; afterwards they are as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
