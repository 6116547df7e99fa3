"""The digest of what a file holds: written with it, so that damage is noticed when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

CHECKSUM = "lwta_checksum"
"""Key under which the files of this package carry the digest of the rest of their content."""


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def digest(content: object) -> str:
    """BLAKE2b of nested containers of tensors, numbers and texts, 32 hexadecimal digits.

    Two contents have the same digest if they are equal in every value, type and shape. The order of a mapping's keys,
    where tensors lie and their strides do not matter; lists and tuples are the same.

    Example:
        >>> digest({"a": torch.ones(2), "b": 1}) == digest({"b": 1, "a": torch.ones(2)})
        True
    """
    found = hashlib.blake2b(digest_size=16)
    _update(found, content)
    return found.hexdigest()


def _update(found: _Hash, content: object) -> None:
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
        for one in content:
            _update(found, one)
    else:
        found.update(f"{type(content).__name__} {content!r};".encode(errors="surrogatepass"))
