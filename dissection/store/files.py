"""Files that are there whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path
from uuid import uuid4

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
    """Write a file under a temporary name, see it onto the disk, then give it its name; returns the checksum.

    Whatever moment the process or the machine stops at, ``path`` is afterwards what it was before, or the new file.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
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
    for path in folder.rglob(".*.tmp"):
        if path.stat().st_mtime < time.time() - ABANDONED:
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See new names of files onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
