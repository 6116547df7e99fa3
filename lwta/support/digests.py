"""Digests: short texts that differ when the data they are made of differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

CHECKSUM = "lwta_checksum"
"""Key under which files of this package carry the digest of the rest of their content."""


def checksum(data: bytes | str) -> str:
    """Return the BLAKE2b digest of bytes or a text, 32 hexadecimal digits."""
    if isinstance(data, str):  # surrogates stand for bytes of file names that are not UTF-8
        data = data.encode(errors="surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_tensors(tensors: Mapping[str, Tensor | str], *, start: str = "", gap: str = " ") -> str:
    """Return the digest of tensors by name, type, shape and every bit, in the order of the names.

    Args:
        tensors: tensors on any device; what is no tensor may be given as a text.
        start: text that the digest begins with.
        gap: text between name, type and shape.
    """
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        if isinstance(value, str):
            digest.update(f"{name}{gap}{value}".encode())
            continue
        digest.update(f"{name}{gap}{value.dtype}{gap}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Hash(Protocol):
    """Hash object of `hashlib`."""

    def update(self, data: Any, /) -> None: ...


def digest_of_content(content: object) -> str:
    """Return the BLAKE2b digest of nested containers of tensors, numbers and texts, 32 hexadecimal digits.

    Two contents have the same digest if they are equal in every value, type and shape. The order of a mapping's keys,
    where tensors lie and their strides do not matter; lists and tuples are the same.

    Example:
        >>> digest_of_content({"a": torch.ones(2), "b": 1}) == digest_of_content({"b": 1, "a": torch.ones(2)})
        True
    """
    found = hashlib.blake2b(digest_size=16)
    _update(found, content)
    return found.hexdigest()


def _update(found: _Hash, content: object) -> None:
    """Add content to a hash."""
    if isinstance(content, Tensor):
        found.update(f"tensor {content.dtype} {tuple(content.shape)};".encode())
        for part in content.detach().reshape(-1).split(1 << 24):  # an expanded tensor is not copied as a whole
            found.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    elif isinstance(content, Mapping):
        found.update(f"mapping {len(content)};".encode())
        for key in sorted(content, key=repr):
            _update(found, key)
            _update(found, content[key])
    elif isinstance(content, list | tuple):
        found.update(f"sequence {len(content)};".encode())
        for item in content:
            _update(found, item)
    else:
        found.update(f"{type(content).__name__} {content!r};".encode(errors="surrogatepass"))
