"""Probe of the images in a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from lwta.images.base import FileProbe, digest_of_ends
from lwta.images.decoding import read_file


class FolderProbe(FileProbe):
    """Probe of the images in a folder and the folders below it; the key is the path from there.

    Only regular files are read. For a pipe, a socket, a device or a link to one, the sample says what it is.

    Args:
        root: the folder.
        keys: paths of the images, from the folder on.

    Raises:
        ValueError: there is no image.
    """

    def __init__(self, root: Path, keys: Sequence[str]) -> None:
        super().__init__(str(root), keys)
        self._root = str(root)  # joined as text, which takes a third of the time that Path does

    def size(self, index: int) -> int:
        """Return the size in bytes of the file at this place, by the file system; −1 if it was removed."""
        try:
            return os.stat(os.path.join(self._root, self.keys[index])).st_size
        except OSError:
            return -1

    def _digest(self, index: int) -> str:
        descriptor = os.open(os.path.join(self._root, self.keys[index]), os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            return digest_of_ends(descriptor, 0, status.st_size) if stat.S_ISREG(status.st_mode) else ""
        finally:
            os.close(descriptor)

    def _data(self, index: int) -> bytes:
        return read_file(os.path.join(self._root, self.keys[index]))


def files_below(root: Path) -> Iterator[str]:
    """Yield the paths, from a folder on, of the files in it and below it; links to folders are not followed."""
    for folder, _, files in os.walk(root):
        start = Path(folder).relative_to(root).as_posix()
        yield from files if start == "." else (f"{start}/{file}" for file in files)
