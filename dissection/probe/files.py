"""Probes of image files: in a folder, in a zip archive."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lwta.dissection.probe.base import (
    IndexedProbe,
    Sample,
    decoded,
    digest_of_ends,
    folder_label,
    is_image,
    require_images,
    step_between_looked_at,
    too_large,
)


class FolderProbe(IndexedProbe):
    """The images in a folder and the folders in it; the key is the path from there, the label the folder's name."""

    def __init__(self, root: Path, keys: Sequence[str]) -> None:
        self.name = str(root)
        self._root = root
        self.keys = keys
        require_images(self.keys, self.name)

    def sizes(self) -> Iterator[int]:
        """As the file system tells; −1 for a file that is gone."""
        for key in self.keys:
            try:
                yield (self._root / key).stat().st_size
            except OSError:
                yield -1

    def digests(self) -> Iterator[str]:
        """Of the ends of the files."""
        step = step_between_looked_at(len(self.keys))
        for i, key in enumerate(self.keys):
            yield "" if i % step else _digest_of(os.path.join(self._root, key))

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            path = self._root / key
            problem = too_large(path.stat().st_size)
            data = b"" if problem else path.read_bytes()
        except OSError as error:
            return Sample(key, None, folder_label(key), str(error))
        return Sample(key, None, folder_label(key), problem) if problem else decoded(key, data, folder_label(key))


class ZipProbe(IndexedProbe):
    """The images in a zip archive, read in memory: its names are keys and never become paths of this machine."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        try:
            names = self._archive().namelist()
        except zipfile.BadZipFile:
            raise ValueError(f"probe must be a folder or a zip or tar archive of images; {path} is neither") from None
        self.keys = sorted(name for name in names if is_image(name))
        require_images(self.keys, self.name)

    def sizes(self) -> Iterator[int]:
        """As the archive's directory tells."""
        return (self._archive().getinfo(key).file_size for key in self.keys)

    def digests(self) -> Iterator[str]:
        """As the archive's directory tells."""
        return (f"crc32:{self._archive().getinfo(key).CRC:08x}" for key in self.keys)

    def _archive(self) -> zipfile.ZipFile:
        """The archive, opened by this process: a file position cannot be shared with the one that forked it."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            problem = too_large(self._archive().getinfo(key).file_size)
            data = b"" if problem else self._archive().read(key)
        except Exception as error:  # whatever the damage makes zipfile and its decompressors raise
            problem = str(error)
        return Sample(key, None, folder_label(key), problem) if problem else decoded(key, data, folder_label(key))


def _digest_of(path: str) -> str:
    """Digest of the ends of a file; nothing for one that is gone, or is a pipe or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        return digest_of_ends(descriptor, 0, status.st_size) if stat.S_ISREG(status.st_mode) else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def files_below(root: Path) -> Iterator[str]:
    """Paths, from there, of the files in a folder and the folders in it; links to folders are not followed."""
    for folder, _, files in os.walk(root):
        start = Path(folder).relative_to(root).as_posix()
        yield from files if start == "." else (f"{start}/{file}" for file in files)
