"""Description of a preprocessing function as a short text, which differs when the function does something else."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from lwta.dissection.store.functions import bytecode, is_current
from lwta.support.digests import checksum

_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")
_DEPTH = 5  # functions that call functions that call functions


def describe(thing: object, depth: int = _DEPTH) -> str:
    """Return a text that shows what a transform does, as far as that is known without calling it.

    An object is described by its repr without memory addresses, and by the functions that it holds, as torchvision's
    Compose of a Lambda does; a partial by its function and arguments; a function by its name, a digest of its source
    (or of its bytecode where there is no source), and the numbers, texts and functions of its module that it uses.

    The contents of lists and tensors that a function uses are left out, and so is what it assigns itself, such as a
    counter of its calls.

    Args:
        thing: transform, or a part of one.
        depth: number of levels, of functions that use functions, that are still described.
    """
    if depth == 0:
        return _name(thing)
    if isinstance(thing, partial):
        arguments = [describe(part, depth - 1) for part in (thing.func, thing.args, thing.keywords)]
        return f"partial({', '.join(arguments)})"
    if isinstance(thing, MethodType):
        return f"{_name(thing)} of {describe(thing.__self__, depth - 1)}"
    if isinstance(thing, FunctionType):
        return f"{_name(thing)} {checksum(_source(thing) + _surroundings(thing, depth))}"
    if isinstance(thing, list | tuple):
        return f"[{', '.join(describe(item, depth - 1) for item in thing)}]"
    if isinstance(thing, Mapping):
        return f"{{{', '.join(f'{key}: {describe(value, depth - 1)}' for key, value in thing.items())}}}"
    return without_addresses(repr(thing)) + _held(thing, depth)


def without_addresses(text: str) -> str:
    """Return the text without memory addresses, which some reprs show."""
    return _ADDRESS.sub("", text)


def _name(thing: object) -> str:
    """Return module and qualified name of a function or class, or of the class of another object."""
    owner = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(owner, '__module__', '')}.{getattr(owner, '__qualname__', '')}"


def _source(function: FunctionType) -> str:
    """Return the source of a function; its bytecode where no file holds it, or the file holds another by now."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return bytecode(function.__code__)
    return source if is_current(inspect.unwrap(function).__code__) else bytecode(function.__code__)


def _surroundings(function: FunctionType, depth: int) -> str:
    """Return the defaults of a function and the values that it uses from outside itself, as text."""
    outside: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            outside[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            outside[name] = function.__globals__[name]
    defaults = (function.__defaults__, function.__kwdefaults__)
    parts = [describe(defaults, depth - 1)]
    for name in sorted(outside.keys() - _assigned(function.__code__)):
        value = outside[name]
        if isinstance(value, FunctionType) and value.__module__ != function.__module__:
            parts.append(f"{name}={_name(value)}")  # a library's: not ours to read
        elif value is not function and (_is_constant(value) or (callable(value) and not isinstance(value, type))):
            parts.append(f"{name}={describe(value, depth - 1)}")
    return "; ".join(parts)


def _is_constant(value: object) -> bool:
    """Return whether a value is a number, a text, bytes, a path, None, or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes | Path)


def _held(thing: object, depth: int) -> str:
    """Return the functions that an object holds, as text; where its repr is an address, also its constants."""
    opaque = bool(_ADDRESS.search(repr(thing)))
    methods = [method for name, method in inspect.getmembers(type(thing), inspect.isfunction) if name != "__init__"]
    state = {name for method in methods for name in _assigned(method.__code__)} if opaque else set()
    parts = [describe(method, depth - 1) for method in methods if opaque]
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        functions = any(callable(item) and not isinstance(item, type) for item in values)
        if functions or (opaque and name not in state and _is_constant(value)):
            parts.append(f"{name}={describe(value, depth - 1)}")
    return f" with {', '.join(parts)}" if parts else ""


def _assigned(code: CodeType) -> set[str]:
    """Return the names of the attributes, and of the variables outside a function, to which it assigns."""
    stores = ("STORE_DEREF", "STORE_GLOBAL", "STORE_ATTR")
    return {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in stores}
