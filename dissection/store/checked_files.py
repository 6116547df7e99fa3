"""Files that exist whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwta.support.digests import checksum
from lwta.support.files import sync, temporary_file, write_atomically

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedFileError(ValueError):
    """Error: a file of the store is missing, truncated or altered."""


class StoreFullError(OSError):
    """Error: there is no space left where the store is."""

    def __str__(self) -> str:
        return str(self.strerror)


def write_file(path: Path, data: bytes) -> str:
    """Write a file, whole or not at all, and return the checksum of its bytes.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return checksum(data)


@contextmanager
def prepared_file(path: Path, data: bytes) -> Iterator[Path]:
    """Context with a temporary file that holds the bytes, which `publish` then renames to ``path``.

    So several files can be written at leisure and appear at one moment, under a lock that is held for that moment only.
    A file that was not published is removed at the end of the context.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
        yield temporary


def publish(temporary: Path, path: Path) -> None:
    """Rename a prepared file to its path.

    Raises:
        OSError: the file cannot be renamed.
    """
    temporary.replace(path)
    sync(path.parent)


def read_file(path: Path, expected: str) -> bytes:
    """Read a file and compare it with its checksum.

    Raises:
        DamagedFileError: the file does not exist, or its bytes are not those that were written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if checksum(data) != expected:
        raise DamagedFileError(f"{path} is damaged: its {len(data)} bytes are not those that were written")
    return data
