"""Digests: short texts that differ when what they are made of does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def checksum(data: bytes) -> str:
    """BLAKE2b of the bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_text(text: str) -> str:
    """`checksum` of a text, which may hold what stands for undecodable bytes of a file name."""
    return checksum(text.encode(errors="surrogatepass"))


def digest_of_tensors(tensors: Mapping[str, Tensor], *, start: str = "", gap: str = " ") -> str:
    """Digest of tensors by name, type, shape and every bit, in the order of the names.

    Args:
        tensors: on any device.
        start: text that the digest begins with.
        gap: between name, type and shape.
    """
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{gap}{value.dtype}{gap}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
