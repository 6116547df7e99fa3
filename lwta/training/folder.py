"""Folder of a run, which one training uses at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lwta.support.processes import Group

_held: set[int] = set()  # descriptors of locked folders


@contextmanager
def own_folder(folder: Path | None, group: Group) -> Iterator[None]:
    """Context in which no other training may use the folder.

    The lock is the system's and ends with the process, however that ends. Where the file system has no locks, there is
    none.

    Args:
        folder: folder of the run, created if it does not exist; None does nothing.
        group: processes that train together; that of rank 0 locks for all of them.

    Raises:
        ValueError: another training uses the folder.
    """
    descriptor, taken = None, False
    if folder is not None and group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _lock(folder)
        except BlockingIOError:
            taken = True
    try:
        if any(group.gather(taken)):
            raise ValueError(f"another training runs in {folder}; wait for its end, or choose another folder")
        yield
    finally:
        if descriptor is not None:
            _held.discard(descriptor)
            with suppress(OSError):  # closing alone would leave it to a process forked meanwhile, until that closes it
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Lock a folder, and return its descriptor, which holds the lock while it is open; None where there are no locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    _held.add(descriptor)
    return descriptor


def _release() -> None:
    """Close the locks in a forked process, which reads images and may outlive a killed training for a moment."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_release)
