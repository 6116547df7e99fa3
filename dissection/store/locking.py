"""One process at a time: a lock on a folder, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of a folder, and hold it while the context lasts.

    The lock is one on the file ``.lock``, which stays: whether it is held, its existence does not say. It is not
    re-entrant. Where the file system knows no locks, the context is entered without one.

    Raises:
        OSError: the folder cannot be written to.

    Warns:
        UserWarning: the file system knows no locks.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            warnings.warn(
                f"store: the file system of {folder} has no locks ({error.strerror}); it is not safe to let several "
                "commands write to this store at once",
                stacklevel=2,
            )
            yield
            return
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has the descriptor too, and may live on
    finally:
        os.close(descriptor)
