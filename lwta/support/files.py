"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = f".*.{'[0-9a-f]' * 32}.tmp"
"""Pattern of the files that a killed process may leave behind."""
_LONGEST = 200  # bytes of a file's name that its temporary name begins with
ABANDONED = 24 * 3600  # seconds after which a temporary file belongs to a killed process, where locks cannot say so


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Write a file whole or not at all: ``write`` fills a temporary file beside ``path``, which then takes its name.

    Whatever moment the process stops at, ``path`` is afterwards what it was before, or the new file.

    Args:
        path: path of the file; its folder is made if it is not there.
        write: called with the temporary file's path.
        durable: sync file and name to the disk, so that the same holds if the machine stops; it takes milliseconds.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    with temporary_file(path) as temporary:
        write(temporary)
        if durable:
            sync(temporary)
        temporary.replace(path)
    if durable:
        sync(path.parent)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, to be filled and renamed to it; the context removes it if it was not.

    While the context lasts the file is locked, and the kernel unlocks what a killed process had locked: so
    `remove_abandoned` knows which files nobody will rename any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = os.fsdecode(os.fsencode(path.name)[:_LONGEST])  # so that the longest names leave room for the rest
    temporary = path.with_name(f".{shown}.{uuid4().hex}.tmp")
    descriptor = _created(temporary)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and those below it.

    Files of a process that lives, on whatever machine, stay. Where the file system knows no locks, files older than a
    day count as abandoned. What cannot be removed stays.
    """
    for path in folder.rglob(TEMPORARY):
        with suppress(OSError):  # gone in the meantime, or on a read-only medium
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            try:
                if _is_abandoned(descriptor):
                    path.unlink()  # locked by this process until then, so nobody begins to use it
            finally:
                os.close(descriptor)


def sync(path: Path) -> None:
    """See a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _created(path: Path) -> int:
    """Descriptor of a new file that this process has locked, if the file system knows locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # else it was taken for abandoned before it was locked
            return descriptor
        os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return os.fstat(descriptor).st_mtime < time.time() - ABANDONED
    return True
