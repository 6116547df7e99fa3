"""Digests: short texts that differ when the data they are made of differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def checksum(data: bytes) -> str:
    """Return the BLAKE2b digest of the bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_text(text: str) -> str:
    """Return the `checksum` of a text, which may hold surrogates for undecodable bytes of a file name."""
    return checksum(text.encode(errors="surrogatepass"))


def digest_of_tensors(tensors: Mapping[str, Tensor], *, start: str = "", gap: str = " ") -> str:
    """Return a digest of tensors: of name, type, shape and every bit, in the order of the names.

    Args:
        tensors: tensors by name, on any device.
        start: text that the digest begins with.
        gap: text between name, type and shape.
    """
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{gap}{value.dtype}{gap}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
