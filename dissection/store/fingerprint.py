"""What a recording depends on, as short texts that differ when the recording might."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from lwta.dissection.store.functions import bytecode, is_current
from lwta.images import Probe
from lwta.support.digests import checksum, digest_of_tensors

CONTENTS = {"ends": "image content", "crc32": "image CRC"}
_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")
_DEPTH = 5  # functions that call functions that call functions


def fingerprint_weights(model: nn.Module) -> str:
    """Digest of all parameters and buffers, by name, type, shape and value."""
    state = model.state_dict().items()
    return digest_of_tensors(
        {name: value if isinstance(value, Tensor) else without_addresses(repr(value)) for name, value in state}
    )


def fingerprint_architecture(model: nn.Module) -> str:
    """Digest of the modules and their settings, as far as their repr tells them; competitions tell all of theirs."""
    return checksum(without_addresses(repr(model)))


def fingerprint_probe(probe: Probe) -> str:
    """Digest of the keys in their order and the sizes of files; where keys are numbers, of what the dataset tells.

    An image that was replaced by another is known by its size; see `fingerprint_images` for those of the same size.

    Raises:
        ValueError: the keys are not known before the images are read.
    """
    if probe.keys is None:
        raise ValueError(
            f"store needs a probe whose keys are known before its images are read; {probe.name} is a stream: give a "
            "folder, an archive, a dataset or a list of (key, image) pairs, or leave store away"
        )
    dataset = getattr(probe, "_dataset", None)  # of a DatasetProbe
    told = "" if isinstance(dataset, list | tuple) else without_addresses(repr(dataset))
    return f"{len(probe.keys)} images, {checksum(chr(0).join([*probe.keys, told, *map(str, probe.sizes())]))}"


def fingerprint_images(probe: Probe) -> dict[str, str]:
    """Digest of what can be told of the images' content without reading them whole, by the name of its part.

    In zip archives that is the CRC-32 of each file, from the archive's directory: any change is noticed, at no cost. In
    folders and tar archives it is the first and last 2 KiB of each file: about 45 µs for a file that the system has
    cached and 0.5 ms for one that it has not (1,649 photographs: 0.07 s and 0.8 s). Of more than 65,536 files every
    n-th is looked at, so that 1.28 million cost 3 s to 35 s instead of one to eleven minutes. Nothing depends on times
    of modification, so that a folder may be copied.

    Not noticed are changes in the middle of a file that leave its size and its ends alone, of one of the files that are
    not looked at, of items of datasets, and of (key, image) pairs; and between a zip archive and a folder of the same
    files, whose digests cannot be compared, all but changes of size.
    """
    digests = list(probe.digests())
    kind = next((text.partition(":")[0] for text in digests if text), "")
    return {CONTENTS[kind]: checksum(chr(0).join(digests))} if kind in CONTENTS else {}


def contents_in(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Of what something depends on, what `fingerprint_images` tells."""
    return {name: parts[name] for name in CONTENTS.values() if name in parts}


def embedder(parts: Mapping[str, str | int]) -> str:
    """What the embeddings of images depend on besides the images: CLIP and the precision in which it computes."""
    return f"{parts['clip']} in {parts['precision']}"


def describe(thing: object, depth: int = _DEPTH) -> str:
    """What a transform does, as far as can be said without calling it.

    Its repr, without addresses. A function is described by its name, its source (or, where there is none, its code),
    and the numbers, texts and functions of its module that it uses; a partial by its function and arguments; an object
    that holds functions, such as torchvision's Compose of a Lambda, also by these. Not looked at are the contents of
    lists and tensors that a function uses, and what it assigns anew, such as a counter of its calls.
    """
    if depth == 0:
        return _name(thing)
    if isinstance(thing, partial):
        arguments = [describe(one, depth - 1) for one in (thing.func, thing.args, thing.keywords)]
        return f"partial({', '.join(arguments)})"
    if isinstance(thing, MethodType):
        return f"{_name(thing)} of {describe(thing.__self__, depth - 1)}"
    if isinstance(thing, FunctionType):
        return f"{_name(thing)} {checksum(_source(thing) + _surroundings(thing, depth))}"
    if isinstance(thing, list | tuple):
        return f"[{', '.join(describe(one, depth - 1) for one in thing)}]"
    if isinstance(thing, Mapping):
        return f"{{{', '.join(f'{key}: {describe(value, depth - 1)}' for key, value in thing.items())}}}"
    return without_addresses(repr(thing)) + _held(thing, depth)


def without_addresses(text: str) -> str:
    """The text less the places in memory that some reprs tell."""
    return _ADDRESS.sub("", text)


def _name(thing: object) -> str:
    owner = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(owner, '__module__', '')}.{getattr(owner, '__qualname__', '')}"


def _source(function: FunctionType) -> str:
    """Source of a function; its code where there is no file to read it from, or the file holds another by now."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return bytecode(function.__code__)
    return source if is_current(inspect.unwrap(function).__code__) else bytecode(function.__code__)


def _surroundings(function: FunctionType, depth: int) -> str:
    """Defaults, and the values that the function finds outside itself."""
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
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes | Path)


def _held(thing: object, depth: int) -> str:
    """Callables that an object holds; for an object whose repr is its address, also the constants."""
    opaque = bool(_ADDRESS.search(repr(thing)))
    methods = [method for name, method in inspect.getmembers(type(thing), inspect.isfunction) if name != "__init__"]
    state = {name for method in methods for name in _assigned(method.__code__)} if opaque else set()
    parts = [describe(method, depth - 1) for method in methods if opaque]
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        functions = any(callable(one) and not isinstance(one, type) for one in values)
        if functions or (opaque and name not in state and _is_constant(value)):
            parts.append(f"{name}={describe(value, depth - 1)}")
    return f" with {', '.join(parts)}" if parts else ""


def _assigned(code: CodeType) -> set[str]:
    """Names outside a function, and attributes, to which it assigns."""
    stores = ("STORE_DEREF", "STORE_GLOBAL", "STORE_ATTR")
    return {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in stores}
