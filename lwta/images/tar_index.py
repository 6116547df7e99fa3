"""Index of a tar archive: names and positions of its files, from its headers, without reading the data between them.

The formats are POSIX ustar and pax (IEEE Std 1003.1, pax) and GNU tar. Python's tarfile reads them too, several times
slower, and ends in silence where an archive is damaged.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

BLOCK = 512
MOST_EXTENSION = 1 << 20  # bytes of a long name or of pax records
END = bytes(BLOCK)
# kinds of member
REGULAR = b"0\x007"
LINKS = b"12346"  # hard and symbolic links, devices, pipes
WITHOUT_DATA = LINKS + b"5"  # folders
SPARSE = ord("S")
EXTENSIONS = b"xgLK"  # what is too long for the header of the next member
NO_HEADER = "what should be a header is none"
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")


class Member(NamedTuple):
    """Member of an archive: a file, link, device or pipe."""

    name: str
    """Path of the member in the archive."""
    offset: int
    """Position in the archive of its first byte."""
    size: int
    """Size in bytes; −1 for a link, device or pipe, which holds nothing."""


class Index(NamedTuple):
    """Index of an archive: its members, and where it is damaged."""

    members: list[Member]
    """Members of the archive, in its order, without folders."""
    damage: str
    """Position and reason of the damage at which reading stopped; empty for a whole archive."""


class _DamagedError(Exception):
    """Error: a header cannot be read."""


def read_index(path: Path) -> Index:
    """Find the files in an archive; folders are left out.

    Raises:
        OSError: the archive cannot be opened.
    """
    members: list[Member] = []
    position = 0
    with path.open("rb", buffering=0) as file:
        descriptor, end = file.fileno(), os.fstat(file.fileno()).st_size
        extended: dict[str, str] = {}
        try:
            while (header := os.pread(descriptor, BLOCK, position)) != END:
                _check(header)
                kind, size, start = header[156], _number(header[124:136]), position + BLOCK
                extends = kind in EXTENSIONS
                if "size" in extended and not extends:
                    size = int(extended["size"])
                stored = 0 if kind in WITHOUT_DATA else size
                if not 0 <= stored <= end - start:
                    raise _DamagedError(f"a member of {size} bytes is cut off")
                if extends:
                    extended |= _extension(descriptor, kind, start, size)
                else:
                    name, extended = extended.get("path") or _name(header), {}
                    if kind in REGULAR and not name.endswith("/"):
                        members.append(Member(name, start, size))
                    elif kind in LINKS:
                        members.append(Member(name, start, -1))
                    elif kind == SPARSE:
                        raise _DamagedError(f"{name!r} is a sparse file, which is not supported")
                position = start + -(-stored // BLOCK) * BLOCK
        except (_DamagedError, ValueError) as error:
            return Index(members, f"{error} (at byte {position} of {end})")
    return Index(members, "")


def is_tar(path: Path) -> bool:
    """Return whether a file begins with the header of a tar archive.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        header = file.read(BLOCK)
    try:
        _check(header)
    except _DamagedError:
        return False
    return True


def _check(header: bytes) -> None:
    """Raise _DamagedError unless this is the header of a member."""
    if len(header) < BLOCK:
        raise _DamagedError("the archive ends without an end mark")
    field = header[148:156]
    if sum(header) - sum(field) + 8 * ord(" ") != _number(field):  # the field itself counts as blanks
        raise _DamagedError(NO_HEADER)


def _number(field: bytes) -> int:
    """Return the number in a field: octal digits, or the binary form in which GNU tar writes larger numbers."""
    if field[0] & 128:
        return int.from_bytes(field[1:], "big") if field[0] == 128 else -1
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise _DamagedError(NO_HEADER) from None


def _name(header: bytes) -> str:
    """Return the path in the header of a member."""
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" and header[345] else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    """Return a name up to its end; bytes that are no UTF-8 are escaped, so that keys are text everywhere."""
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _extension(descriptor: int, kind: int, start: int, size: int) -> dict[str, str]:
    """Return "path" and "size" of the next member, if this extended header of GNU tar or pax holds them."""
    if kind in b"Kg":  # the target of a link; what holds for the whole archive
        return {}
    if size > MOST_EXTENSION:
        raise _DamagedError(f"a name of {size} bytes")
    data = os.pread(descriptor, size, start)
    if kind == ord("L"):
        return {"path": _text(data)}
    records, position = {}, 0
    while match := PAX_RECORD.match(data, position):  # "27 path=folder/image.jpg\n", all of it counted
        end = position + int(match[1])
        if end <= match.end() or data[end - 1 : end] != b"\n":
            break
        if match[2] in (b"path", b"size"):
            records[match[2].decode()] = _text(data[match.end() : end - 1])
        position = end
    if position < len(data.rstrip(b"\0")):
        raise _DamagedError("pax records that cannot be read")
    return records
