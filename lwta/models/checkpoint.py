"""Weights from checkpoints of the method's authors, of timm, of torchvision, and of this package."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = ("model", "state_dict", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")
ADVICE = "; see ignore"
_SHOWN = 8


def load_checkpoint(model: nn.Module, path: str | Path, *, ignore: str | Sequence[str] = ()) -> nn.Module:
    """Load the weights of a checkpoint into a network.

    Read are safetensors files and those of `torch.save`, of which nothing but tensors, containers and numbers is
    unpickled. The state dict is the file itself or its entry ``model``, ``state_dict`` or ``model_state_dict``;
    prefixes that data-parallel and compiled modules put before all names are taken off. The scalars ``temp`` of the
    authors' competitive layers are passed over: who wins does not depend on them.

    Args:
        model: the network, possibly compiled or data-parallel.
        path: of the checkpoint.
        ignore: glob patterns of names that may differ, in the checkpoint or the network, such as ``"head.*"`` for
            another number of classes; they are not loaded.

    Returns:
        ``model`` itself.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or its names or shapes are not those of the network; it names them.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> torch.save({"model": {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}}, path)
        >>> load_checkpoint(nn.Linear(2, 1), path).weight.tolist()
        [[1.0, 1.0]]
    """
    path = Path(path)
    patterns = [ignore] if isinstance(ignore, str) else list(ignore)
    target = _unwrapped(model)
    found = _without_prefixes(_state_dict(_read(path), path), target)
    own = target.state_dict()
    weights = {
        name: tensor
        for name, tensor in found.items()
        if not _matches(name, patterns) and (name in own or not _is_temperature(name, tensor))
    }
    expected = {name: tensor for name, tensor in own.items() if not _matches(name, patterns)}
    _check(weights, expected, path)
    target.load_state_dict({**own, **weights})
    return model


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from error
    try:
        # The checkpoints of DeiT's training script hold its command line, a plain record of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no file of weights alone: {reason}") from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for container in CONTAINERS:
            if isinstance(content.get(container), Mapping):
                content = content[container]
                break
    tensors = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(
            f"{path} holds no state dict: it must be a state dict or hold one as "
            f"{', '.join(map(repr, CONTAINERS))}, found: {found}"
        )
    return dict(content)


def _without_prefixes(state: dict[str, Tensor], target: nn.Module) -> dict[str, Tensor]:
    """Names as the network has them; a prefix goes if every name has it and the network has no such child."""
    children = dict(target.named_children())
    for prefix in PREFIXES * 2:
        if prefix.rstrip(".") not in children and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _is_temperature(name: str, tensor: Tensor) -> bool:
    return name.split(".")[-1] == "temp" and tensor.numel() == 1


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": shapes,
    }
    lines = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if lines:
        raise ValueError(f"{path} does not fit the network of {len(expected)} tensors; {'; '.join(lines)}{ADVICE}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile` and data parallelism."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model
