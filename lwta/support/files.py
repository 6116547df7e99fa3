"""Writing of files, which appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = f".*.{'[0-9a-f]' * 32}.tmp"
"""Glob pattern of the temporary files, which a killed process may leave behind."""
_LONGEST = 200  # bytes of a file's name that its temporary name begins with
ABANDONED = 24 * 3600
"""Age in seconds from which a temporary file counts as left by a killed process where the file system has no locks."""


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
    """Context with an empty file beside ``path``, to be filled and renamed to it; if it was not, it is removed.

    While the context lasts the file is locked. The system unlocks the files of a killed process, so `remove_abandoned`
    knows which files nobody will rename any more.

    Raises:
        OSError: the file cannot be created.
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

    Files of a running process, on whatever machine, stay. Where the file system has no locks, files older than a day
    count as abandoned. A file that cannot be removed stays.
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
    """Write a file, or the names in a folder, through to the disk.

    Raises:
        OSError: the file or folder cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _created(path: Path) -> int:
    """Create a file, lock it if the file system has locks, and return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # else it was taken for abandoned before it was locked
            return descriptor
        os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool:
    """Return whether no running process holds a temporary file, judged by its lock or, without locks, by its age."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return os.fstat(descriptor).st_mtime < time.time() - ABANDONED
    return True
