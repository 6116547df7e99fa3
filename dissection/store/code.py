"""Digests of everything a network computes beyond its weights and its repr: its own code, settings, buffers and hooks.

Digests serve better than the outputs of a first batch: no image is read, and floating-point outputs differ between
machines on which the network is the same.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lwta.competition import Competition
from lwta.dissection.store.functions import (
    acts,
    digest_of_source,
    functions_of,
    is_method,
    is_own,
    is_own_class,
    names_altered,
    names_assigned,
    names_used,
    reached,
)
from lwta.support.digests import checksum

PLACE = re.compile(r"(?:cpu|cuda|mps|xpu|meta)(?::\d+)?")
UNREAD = frozenset(vars(nn.Module())) | {"name_or_path", "grad_checkpointing", "gradient_checkpointing"}
"""Names of attributes on which the outputs in eval mode do not depend."""
DEPTH = 5  # levels of containers within containers that are read


def fingerprint_code(model: nn.Module) -> str:
    """Return four digests of what a network computes, as far as neither its weights nor its repr show it.

    - forward: the code that ``forward`` reaches in the user's own classes and modules: methods, functions, and the
      constants and functions that they use. Comments, docstrings, formatting and names of modules do not count.
    - attributes: numbers, texts, tensors and functions, and lists, mappings and dataclasses of them, which modules hold
      outside their state dict; for modules of libraries only public numbers and texts.
    - buffers: values of buffers that are not persistent.
    - hooks: the code of forward hooks and forward pre-hooks that return something or change tensors in place; others
      only observe.

    Installed packages (torch, lwta, timm) are not read. These do not count: names that the code itself assigns, such as
    counters and caches; devices and absolute paths; objects of other classes; and whatever C extensions do.

    Returns:
        The four digests with their names, each of 8 hexadecimal digits, for a message that names what changed.
    """
    modules = dict(model.named_modules())
    reader = _Reader(map(type, modules.values()))
    for module in modules.values():
        reader.read_module(module)
    parts, before = _parts(model, modules, reader), None
    while parts != before:  # what is read of attributes may assign what was taken for a setting
        parts, before = _parts(model, modules, reader), parts
    return ", ".join(f"{part} {checksum(chr(0).join(sorted(texts)))[:8]}" for part, texts in parts.items())


def _parts(model: nn.Module, modules: Mapping[str, nn.Module], reader: _Reader) -> dict[str, set[str]]:
    """The texts of each part, as far as the reader knows what is assigned."""
    hooks = [f"{name} {hook}" for name, module in modules.items() for hook in _acting_hooks(module, reader)]
    attributes = [
        f"{name}.{attribute}={text}"
        for name, module in modules.items()
        for attribute, text in _settings(module, reader, own=is_own_class(type(module)))
    ]
    kept = set(model.state_dict())
    buffers = [
        f"{name}={text}"
        for name, value in model.named_buffers()
        if name not in kept and (text := reader.setting(name.rpartition(".")[2], value)) is not None
    ]
    return {"forward": {*reader.texts()}, "attributes": {*attributes}, "buffers": {*buffers}, "hooks": {*hooks}}


class _Reader:
    """Reader of functions, and of the functions that these reach.

    Args:
        classes: classes of the network's modules, whose methods functions of one's own may call.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes = {kind for kind in classes if is_own_class(kind)}
        self.assigned: set[str] = set()
        """Names that the functions read so far assign."""
        self._altered: set[str] = set()
        self._texts: set[str] = set()
        self._constants: list[tuple[str, Any]] = []
        self._read: dict[tuple[int, type | None], object] = {}

    def texts(self) -> Iterator[str]:
        """Yield everything that was read: functions, and the constants that they do not assign."""
        constants = {f"{name}={text}" for name, value in self._constants if (text := self.setting(name, value))}
        yield from self._texts | constants

    def read_module(self, module: nn.Module) -> None:
        """Read the ``forward`` of a module, and the ``__call__`` of its class if that is the user's own."""
        if isinstance(module, torch.jit.ScriptModule):
            self._texts.add(f"TorchScript {module.code}" if hasattr(module, "forward") else "TorchScript")
            return
        if isinstance(module, torch.fx.GraphModule):  # made of other code, so that its file says nothing
            self._texts.add(f"graph {module.code}")
            for node in module.graph.nodes:
                self._read_own(node.target, None)
            return
        owner = type(module)
        forward = vars(module).get("forward", inspect.getattr_static(owner, "forward", None))
        for entry in (forward, inspect.getattr_static(owner, "__call__", None)):
            for function in functions_of(entry):
                if entry is forward or is_own(function):
                    self.read(function, owner)

    def read(self, function: FunctionType, owner: type | None = None) -> None:
        """Read a function, as a method of ``owner`` if that is given, and everything that it reaches."""
        if (id(function), owner) in self._read:
            return
        self._read[id(function), owner] = function  # kept, so that no other gets its id
        self.note(function)
        own = is_own(function)
        if own:
            self._texts.add(f"{function.__qualname__} {digest_of_source(function)}")
            for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
                self._found(function.__qualname__, default, owner)
        for name, value in reached(function, owner, own):
            self._found(name, value, owner)
        for other in self._classes - {owner} if own else ():  # a method of another module, such as encoder.features
            for name in names_used(function):
                self._read_own(inspect.getattr_static(other, name, None), other)

    def _read_own(self, value: Any, owner: type | None) -> None:
        for function in functions_of(value):
            if is_own(function):
                self.read(function, owner)

    def _found(self, name: str, value: Any, owner: type | None) -> None:
        """Read the functions of a value that a function uses; keep any other value as a constant."""
        functions = list(functions_of(value))
        for function in functions:
            if is_own(function) or is_method(function, owner):
                self.read(function, owner)
        if not functions:
            self._constants.append((name, value))

    def note(self, function: FunctionType) -> None:
        """Learn which names a function changes."""
        self.assigned |= names_assigned(function.__code__)
        if is_own(function):
            self._altered |= names_altered(function)

    def setting(self, name: str, value: Any, depth: int = DEPTH) -> str | None:
        """Return the value of a name as text, as `plain` does; None also if a function that was read changes it."""
        if name in self.assigned or (name in self._altered and not is_scalar(value)):
            return None
        return self.plain(value, depth)

    def plain(self, value: Any, depth: int = DEPTH) -> str | None:
        """Return a value as text that is the same in every process; None for a value that has no such text.

        Numbers, texts, tensors and functions have one, and containers of them, but not devices and absolute paths.
        """
        if isinstance(value, np.generic):  # some are a str or float too, with a repr of their own
            return self.plain(value.item(), depth)
        if isinstance(value, str):
            return None if PLACE.fullmatch(value) or Path(value).is_absolute() else repr(value)
        if value is None or isinstance(value, bool | int | float | complex | bytes | torch.dtype):
            return repr(value)
        if isinstance(value, Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if isinstance(value, Tensor | np.ndarray):
            return _tensor(value)
        if isinstance(value, nn.Module | ModuleType | type) or depth == 0:
            return None
        return self._compound(value, depth - 1)

    def _compound(self, value: Any, depth: int) -> str | None:
        """Return a function, or a container of values, as `plain` does."""
        if isinstance(value, partial):
            return self.plain([value.func, value.args, value.keywords], depth)
        if isinstance(value, MethodType):
            return self.plain([value.__func__, self._held(value.__self__, depth)], depth)
        if isinstance(value, FunctionType):
            if is_own(value):
                self.read(value)
            return value.__qualname__
        if isinstance(value, BuiltinFunctionType):
            return value.__qualname__
        if isinstance(value, Mapping):
            items: Iterable[Any] = [part for item in value.items() for part in item]
        elif isinstance(value, set | frozenset):
            items = sorted(value, key=repr)
        elif isinstance(value, list | tuple):
            items = value
        elif (is_dataclass(value) or isinstance(value, SimpleNamespace)) and hasattr(value, "__dict__"):
            return self._held(value, depth)
        else:
            return None
        texts = [self.plain(item, depth) for item in items]
        return None if None in texts else f"[{', '.join(map(str, texts))}]"

    def _held(self, thing: object, depth: int) -> str:
        """Return the settings of an object; empty for modules, which are read by themselves."""
        if isinstance(thing, nn.Module):
            return ""
        held = ((name, self.setting(name, value, depth)) for name, value in getattr(thing, "__dict__", {}).items())
        return str(sorted((name, text) for name, text in held if text is not None))


def is_scalar(value: Any) -> bool:
    """Return whether a value is of a type that cannot be altered in place."""
    return value is None or isinstance(value, bool | int | float | str | tuple)


def _settings(module: nn.Module, reader: _Reader, own: bool) -> Iterator[tuple[str, str]]:
    """Yield name and text of the attributes of a module that count; a competition has none, as its repr shows all."""
    if isinstance(module, Competition) and not own:
        return
    for name, value in vars(module).items():
        if name in UNREAD or (not own and (name.startswith("_") or not is_scalar(value))):
            continue
        if isinstance(inspect.getattr_static(type(module), name, None), cached_property):  # computed on first use
            continue
        text = reader.setting(name, value)
        if text is not None:
            yield name, text


def _acting_hooks(module: nn.Module, reader: _Reader) -> Iterator[str]:
    """Yield the hooks that may change what a module computes, as text."""
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        for hook in getattr(module, kind, {}).values():
            called = hook if isinstance(hook, FunctionType | MethodType | partial) else hook.__call__
            for function in functions_of(called):
                reader.note(function)
                if is_own(function) and acts(function):
                    reader.read(function)
                    yield f"{kind} {reader.plain(called)}"


def _tensor(value: Tensor | np.ndarray) -> str:
    """Return type, shape and a digest of the values of a tensor or array, as text."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return f"{value.dtype} {value.shape}"
        return f"{value.dtype} {value.shape} {checksum(value.tobytes())}"
    if value.is_meta or value.layout != torch.strided or value.is_quantized:
        return f"{value.dtype} {tuple(value.shape)}"
    data = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} {checksum(data)}"
