"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".*.tmp"
"""Pattern of the files that a killed process may leave behind."""


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Have ``write`` fill a temporary file beside ``path``, and give it its name.

    Whatever moment the process stops at, ``path`` is afterwards what it was before, or the new file.

    Args:
        path: of the file; its folder is made if it is not there.
        write: is called with the temporary file's path.
        durable: see file and name onto the disk, so that the same holds for the machine; it takes some milliseconds.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
