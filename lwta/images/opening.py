"""Opening of probes: from a path, a dataset or an iterable to the right kind of probe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lwta.images.base import FileProbe, Probe
from lwta.images.datasets import DatasetProbe, PairsProbe, StreamProbe
from lwta.images.decoding import is_image
from lwta.images.folders import FolderProbe, files_below
from lwta.images.tar_index import is_tar
from lwta.images.tars import TarProbe
from lwta.images.zips import ZipProbe
from lwta.support.text import some

KINDS = "a folder, a zip or tar archive, tar shards, a dataset or an iterable of (key, image)"
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MOST_SHARDS = 1_000_000


def open_probe(source: Probe | str | Path | Iterable[Any]) -> Probe:
    """Open whatever `dissect` takes as its ``probe``; also called `Probe.of`.

    - A folder of images, at any depth, or a zip or tar archive of them: keys are paths inside it, labels the classes by
      their folders, as `lwta.images.base.find_places` finds them.
    - Tar shards, as WebDataset writes them: a name with ranges (``"shard-{000000..000127}.tar"``, any number of
      them, or ``{a,b}``), a list of paths, or a folder of ``.tar`` files and no images. Keys are shard/member. The
      label is what the sample's ``.cls`` file, the "label" of its ``.json``, or its ``.txt`` says, if it has one.
    - A dataset with ``len`` and indices: its items are images, begin with image and label, or are rows with "image"
      and perhaps "label", as in Hugging Face datasets. Keys are the indices, with leading zeros; labels are the
      class names, where the dataset knows them.
    - An iterable of (key, image) pairs.

    Archives are read where they are: nothing is extracted, no link is followed, and no name in them becomes a path.
    Images are PIL, RGB and upright, by the rule of `lwta.images.decoding`. An image that cannot be decoded, or that
    this rule refuses, is no error but a `Sample` without image.

    Args:
        source: one of these sources.

    Raises:
        FileNotFoundError: there is no such folder or archive.
        ValueError: the source holds no image, repeats a key, is a damaged zip archive or a compressed tar archive.
        TypeError: ``source`` is none of these.

    Warns:
        UserWarning: a tar archive is damaged or cut off; the images before the damage are used.

    Example:
        >>> from PIL import Image
        >>> probe = Probe.of([("red.png", Image.new("RGB", (4, 4), "red"))])
        >>> probe.keys, probe[0].image.size
        (['red.png'], (4, 4))
    """
    if isinstance(source, Probe):
        return source
    if isinstance(source, str | Path):
        return _open_path(str(source))
    if isinstance(source, Mapping):
        raise TypeError(f"probe must be {KINDS}; of a mapping, pass one entry: {some([*map(str, source)])}")
    if isinstance(source, Sequence) and source and all(isinstance(item, str | Path) for item in source):
        return TarProbe([path for item in source for path in _shards(str(item))], f"{len(source)} archives")
    if isinstance(source, Sequence) and _is_keyed(source):
        return PairsProbe(source)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return DatasetProbe(source)
    if isinstance(source, Iterable):
        return StreamProbe(source)
    raise TypeError(f"probe must be {KINDS}, got {type(source).__name__}")


Probe.of = staticmethod(open_probe)


def open_archive(path: Path) -> FileProbe:
    """Open a zip or tar archive as a probe, whatever its name is.

    Raises:
        OSError: the archive cannot be opened.
        ValueError: the file is neither, holds no image, repeats a key, is damaged or compressed as a whole.
    """
    if path.suffix == ".tar" or is_tar(path):
        return TarProbe([path], str(path))
    with path.open("rb") as file:
        start = file.read(8)
    for magic, method in COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path} must be an archive whose images can be read one by one, it is compressed as a whole with "
                f"{method}: decompress it to a plain .tar first (images are compressed already)"
            )
    return ZipProbe(path)


def _open_path(name: str) -> Probe:
    """Open a folder, an archive, or the archives that a name with ranges stands for."""
    path = Path(name)
    if path.is_dir():
        images = sorted(filter(is_image, files_below(path)))
        shards = [] if images else sorted(filter(Path.is_file, path.rglob("*.tar")))
        return TarProbe(shards, name) if shards else FolderProbe(path, images)
    if not path.exists() and BRACES.search(name):
        return TarProbe(list(_shards(name)), name)
    if not path.is_file():
        raise FileNotFoundError(f"probe must be a folder or a zip or tar archive of images; there is no {path}")
    return open_archive(path)


def _shards(name: str) -> Iterator[Path]:
    """Yield the archives that a name with ranges stands for.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    for path in [name] if Path(name).exists() else expand(name):
        if not Path(path).is_file():
            raise FileNotFoundError(f"probe must name archives that are there; there is no {path}")
        yield Path(path)


def expand(name: str) -> Iterator[str]:
    """Yield the names that a name with any number of ``{000..127}`` and ``{a,b}`` stands for; the last varies fastest.

    Raises:
        ValueError: a range is empty or longer than a million.

    Example:
        >>> list(expand("{train,val}-{09..10}.tar"))
        ['train-09.tar', 'train-10.tar', 'val-09.tar', 'val-10.tar']
    """
    match = BRACES.search(name)
    if match is None:
        yield name
        return
    first, last, listed = match.groups()
    choices: Iterable[str]
    if listed is None:
        count = int(last) - int(first) + 1
        if not 1 <= count <= MOST_SHARDS:
            raise ValueError(f"probe must have ranges of 1 to {MOST_SHARDS} shards, got {match.group()} in {name!r}")
        width = len(first) if first.startswith("0") else 0
        choices = (f"{number:0{width}d}" for number in range(int(first), int(last) + 1))
    else:
        choices = listed.split(",")
    for choice in choices:
        for rest in expand(name[match.end() :]):
            yield name[: match.start()] + choice + rest


def _is_keyed(source: Sequence[Any]) -> bool:
    """Return whether a list or tuple holds (key, image) pairs rather than images with labels."""
    return bool(source) and isinstance(source[0], tuple | list) and isinstance(next(iter(source[0]), None), str)
