"""Files that are there whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwta.support.digests import checksum
from lwta.support.files import sync, temporary_file, write_atomically

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedFileError(ValueError):
    """A file of the store that is missing, truncated or altered."""


class StoreFullError(OSError):
    """There is no space left where the store is."""

    def __str__(self) -> str:
        return str(self.strerror)


def write_file(path: Path, data: bytes) -> str:
    """Write a file, whole or not at all; returns the checksum.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return checksum(data)


@contextmanager
def prepared_file(path: Path, data: bytes) -> Iterator[Path]:
    """The bytes on the disk under a temporary name, for `publish` to give them theirs while the context lasts.

    So several files can be written at leisure and appear at one moment, under a lock that is held for that moment only.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
        yield temporary


def publish(temporary: Path, path: Path) -> None:
    """Give a prepared file its name."""
    temporary.replace(path)
    sync(path.parent)


def read_file(path: Path, expected: str) -> bytes:
    """The bytes of a file whose checksum is known.

    Raises:
        DamagedFileError: it is not there, or not what was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if checksum(data) != expected:
        raise DamagedFileError(f"{path} is damaged: its {len(data)} bytes are not those that were written")
    return data
