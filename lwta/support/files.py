"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".*.tmp"
"""Pattern of the files that a killed process may leave behind."""


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
