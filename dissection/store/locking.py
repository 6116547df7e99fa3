"""Lock on a folder, held by one process at a time; the system releases it when that process dies."""

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
    """Context in which this process alone holds the lock of a folder; entering it waits until no other process does.

    The lock is one on the file ``.lock``, which stays: its existence does not mean that the lock is held. A process
    must not enter the context twice. Where the file system has no locks, the context is entered without one.

    Raises:
        OSError: the folder cannot be written to.

    Warns:
        UserWarning: the file system has no locks.
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
