"""Files that are there whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import time
from pathlib import Path

from lwta.support.files import TEMPORARY, write_atomically

FULL = (errno.ENOSPC, errno.EDQUOT)
ABANDONED = 24 * 3600  # seconds after which a temporary file belongs to a process that was killed


class DamagedFileError(ValueError):
    """A file of the store that is missing, truncated or altered."""


class StoreFullError(OSError):
    """There is no space left where the store is."""

    def __str__(self) -> str:
        return str(self.strerror)


def checksum(data: bytes) -> str:
    """BLAKE2b of the bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def write_file(path: Path, data: bytes) -> str:
    """Write a file, whole or not at all; returns the checksum.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return checksum(data)


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


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and those below it."""
    for path in folder.rglob(TEMPORARY):
        if path.stat().st_mtime < time.time() - ABANDONED:
            path.unlink(missing_ok=True)
