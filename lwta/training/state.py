"""Everything that an interrupted run needs to go on, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lwta.support.files import write_atomically


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of the global generators of Python, NumPy, torch and the device, in what ``weights_only`` reads."""
    numpy: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = numpy
    version, internal, gauss_next = random.getstate()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """The inverse of `random_state`."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the state of a run; the file is the last complete one at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_state(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The state of the run in this file, or None if there is no file.

    Raises:
        ValueError: the run has other settings; they are named.
    """
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    differences = [
        f"{name} {state['settings'].get(name)!r}, now {value!r}"
        for name, value in settings.items()
        if state["settings"].get(name) != value
    ]
    if differences:
        raise ValueError(f"{path} is of a run with other settings ({'; '.join(differences)}); choose another folder")
    return state
