"""State of a run: everything that an interrupted one needs to go on, bit for bit."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lwta.models import ModelConfig
from lwta.models.checkpoint import read_checkpoint
from lwta.models.saving import read_config
from lwta.support.digests import CHECKSUM, digest_of_content
from lwta.support.files import write_atomically

_VARIABLE = ("temperature", "eval_mode")  # what a run and its evaluations change in a network
_UNSTABLE = re.compile(rf",? ?({'|'.join(_VARIABLE)})=[^,]*| at 0x[0-9a-f]+")
_ENTRIES = {"model", "optimizer", "scheduler", "settings", "epoch", "step", "history", "seconds", "sums", "generators"}
_ADVICE = "put a copy in its place, or remove it to begin anew"
_SHOWN = 4


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy, torch and the device.

    They are tensors, containers, numbers and texts, which `torch.load` reads with ``weights_only=True``.
    """
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
    """Set the global generators to the states that `random_state` returned."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def network_settings(model: nn.Module) -> dict[str, Any]:
    """Return the settings of a network, without its weights and without the settings that a run changes.

    For a network of `lwta.create_model` these are the settings of its configuration; for another network, type and repr
    of each module by its name.
    """
    config = getattr(model, "lwta_config", None)
    if isinstance(config, ModelConfig):
        return _settings_of(config)
    return {
        f"module {name or 'itself'}": f"{type(module).__name__}({_UNSTABLE.sub('', module.extra_repr())})"
        for name, module in model.named_modules()
    }


def _settings_of(config: ModelConfig) -> dict[str, Any]:
    """Return the settings of a configuration, without those that a run changes."""
    return {name: value for name, value in config.to_dict().items() if name not in _VARIABLE}


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the state of a run with its checksum; the file is the last complete one at every moment.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    state = {**state, CHECKSUM: digest_of_content(state)}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # opened by Python, as PyTorch does not say why it cannot write to one
            torch.save(state, file)

    try:
        write_atomically(path, write)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from None


def load_state(path: Path, settings: Mapping[str, Any], *, changeable: Collection[str] = ()) -> dict[str, Any] | None:
    """Read the state of a run; return None if there is no file.

    Settings that the file lacks, as version 0.1.0 did not write all of them, are not compared. If it lacks those of the
    network, the configuration in the folder ``model`` beside the file serves instead, if that exists.

    Args:
        path: the file.
        settings: settings of the present run; a setting may be a mapping of settings.
        changeable: names of settings that may differ.

    Raises:
        ValueError: the file cannot be read or is damaged, or its run has other settings; they are named.
    """
    if not path.exists():
        return None
    state = _read(path)
    saved = state["settings"]
    if (config := _saved_config(saved, path.parent / "model")) is not None:
        saved["network"] = _settings_of(config)
    found = _differences(saved, {name: value for name, value in settings.items() if name in saved.keys() - changeable})
    if found:
        shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        raise ValueError(f"{path} is of a run with other settings ({shown}); choose another folder")
    return state


def _read(path: Path) -> dict[str, Any]:
    """Read the state of a run; raise ValueError if the file is damaged, or no such state."""
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_ADVICE}") from None
    entries = state.keys() if isinstance(state, dict) else set()
    settings = state["settings"] if entries >= _ENTRIES else None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no checkpoint of a run, or it is damaged; {_ADVICE}")
    if "network" in settings and CHECKSUM not in entries:  # version 0.1.0 wrote neither
        raise ValueError(f"{path} is damaged: its checksum is missing; {_ADVICE}")
    return state


def _saved_config(saved: Mapping[str, Any], folder: Path) -> ModelConfig | None:
    """Return the configuration that a run wrote, with the defaults of settings that later versions added, or None."""
    try:
        return ModelConfig.from_dict(saved["network"]) if "network" in saved else read_config(folder)
    except (OSError, ValueError):  # the network is of another origin, or the run has not ended
        return None


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for each setting that differs, with both of its values."""
    found = []
    for name, value in now.items():
        if isinstance(value, Mapping) and isinstance(saved[name], Mapping):
            names = dict.fromkeys([*saved[name], *value])
            found += _differences(*({key: part.get(key) for key in names} for part in (saved[name], value)))
        elif saved[name] != value:
            found.append(f"{name} {_short(saved[name])}, now {_short(value)}")
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
