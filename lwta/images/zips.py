"""Probe of the images in a zip archive."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lwta.images.base import FileProbe
from lwta.images.decoding import check_size, is_image, read_all

_MAGIC = b"PK"


class ZipProbe(FileProbe):
    """Probe of the images in a zip archive; its names are keys and never become paths of this machine.

    Raises:
        OSError: the archive cannot be opened.
        ValueError: the file is no zip archive, a damaged one, holds no image, or repeats a key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        try:
            names = self._archive().namelist()
        except OSError:
            raise
        except Exception as error:  # zipfile raises almost anything on damaged archives
            with path.open("rb") as file:
                is_zip = file.read(len(_MAGIC)) == _MAGIC
            if is_zip:
                raise ValueError(f"{path} is a damaged zip archive, perhaps cut off: {error}") from error
            raise ValueError(f"{path} must be a folder or a zip or tar archive of images, it is neither") from None
        super().__init__(str(path), sorted(filter(is_image, names)))

    def size(self, index: int) -> int:
        """Return the size in bytes of the file at this place, by the archive's directory."""
        return self._archive().getinfo(self.keys[index]).file_size

    def digests(self) -> Iterator[str]:
        """Return the checksum of each image's file, by the archive's directory."""
        return (f"crc32:{self._archive().getinfo(key).CRC:08x}" for key in self.keys)

    def _data(self, index: int) -> bytes:
        archive = self._archive()
        entry = archive.getinfo(self.keys[index])
        check_size(entry.file_size)
        with archive.open(entry) as file:
            return read_all(file, entry.file_size)

    def _archive(self) -> zipfile.ZipFile:
        """Return the archive, opened by this process, since processes after a fork would share one file position."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}
