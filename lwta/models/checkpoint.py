"""Checkpoints: weights of the method's authors, of timm, of torchvision, and of this package."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lwta.support.digests import CHECKSUM, digest_of_content

CONTAINERS = ("model", "state_dict", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")
ADVICE = "; see ignore"
_SHOWN = 8
_FORBIDDEN = re.compile(r"\bGLOBAL ([\w.]+)")  # how PyTorch names what it refuses to unpickle


def load_checkpoint(model: nn.Module, path: str | Path, *, ignore: str | Sequence[str] = ()) -> nn.Module:
    """Load the weights of a checkpoint into a network.

    The file may be one of safetensors or of `torch.save`; only tensors, containers and numbers are unpickled. The state
    dict is the file itself or its entry ``model``, ``state_dict`` or ``model_state_dict``; prefixes that data-parallel
    and compiled modules put before all names are removed. The scalars ``temp`` of the authors' competitive layers are
    ignored, as the winners do not depend on them. Where a batch norm's ``num_batches_tracked`` is missing, as in
    checkpoints from before PyTorch 0.4.1, the network's own value stays. Files of this package carry a checksum, which
    is compared.

    Args:
        model: the network, possibly compiled or data-parallel.
        path: file of the checkpoint.
        ignore: glob patterns of names that may differ, in the checkpoint or the network, such as ``"head.*"`` for
            another number of classes; they are not loaded.

    Returns:
        ``model`` itself.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint or is damaged, or its names or shapes are not those of the network, which
            the message names.

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
    found = _without_prefixes(_state_dict(read_checkpoint(path), path), target)
    own = target.state_dict()
    weights = {
        name: tensor
        for name, tensor in found.items()
        if not _matches(name, patterns) and (name in own or not _is_temperature(name, tensor))
    }
    expected = {
        name: tensor
        for name, tensor in own.items()
        if not _matches(name, patterns) and (name in weights or not _is_count(name))
    }
    if problems := mismatches(weights, expected):
        raise ValueError(f"{path} does not fit the network of {len(own)} tensors; {problems}{ADVICE}")
    target.load_state_dict({**own, **weights})
    return model


def read_checkpoint(path: Path) -> Any:
    """Read the content of a file of weights onto the CPU; only tensors, containers and numbers are unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, is damaged, or holds more than weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # The checkpoints of DeiT's training script hold its command line, a plain record of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything; of a file cut off, also an OSError
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path} is no file of weights alone: {_reason(error, path)}") from None
    if isinstance(content, dict) and CHECKSUM in content:
        _verify({name: value for name, value in content.items() if name != CHECKSUM}, content[CHECKSUM], path)
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raise ValueError if it is damaged or no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, KeyError) as error:  # KeyError: an unknown type
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if CHECKSUM in metadata:
        _verify(tensors, metadata[CHECKSUM], path)
    return tensors


def _verify(content: Any, expected: object, path: Path) -> None:
    """Raise ValueError unless the content of a file has the expected checksum."""
    if digest_of_content(content) != expected:
        raise ValueError(f"{path} is damaged: its content is not what was written")


def _reason(error: Exception, path: Path) -> str:
    """Return why PyTorch did not read a file, without its advice to unpickle anything, which may run any code."""
    if path.stat().st_size == 0:
        return "it is empty"
    forbidden = _FORBIDDEN.search(str(error))
    if forbidden is not None:
        return f"it also holds {forbidden[1]}"
    return "it is damaged, cut off, or of another kind"


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict that is, or is in, the content of a file; raise ValueError if there is none."""
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
    """Return the state dict without a prefix that every name has, unless the network has a child of that name."""
    children = dict(target.named_children())
    for prefix in PREFIXES * 2:
        if prefix.rstrip(".") not in children and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _is_temperature(name: str, tensor: Tensor) -> bool:
    """Return whether an entry is the temperature of a competitive layer of the method's authors."""
    return name.split(".")[-1] == "temp" and tensor.numel() == 1


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_count(name: str) -> bool:
    """Return whether an entry is a batch norm's number of batches, which old checkpoints lack."""
    return name.split(".")[-1] == "num_batches_tracked"


def mismatches(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return a text with the names and shapes in which weights differ from those of a network; empty if they fit."""
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
    return "; ".join(f"{what}: {_some(names)}" for what, names in problems.items() if names)


def _some(names: list[str]) -> str:
    """Return the first few names, and the number of the others, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of `torch.compile` and data parallelism."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model
