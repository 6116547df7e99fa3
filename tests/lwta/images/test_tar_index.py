"""The index of tar archives, against Python's tarfile and against damage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwta.images.tar_index import is_tar, read_index

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write(path: Path, files: dict[str, bytes], form: str = "pax", mtime: float = 0) -> Path:
    with tarfile.open(path, "w", format=FORMATS[form]) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return path


def contents(path: Path) -> list[tuple[str, bytes]]:
    data = path.read_bytes()
    return [(member.name, data[member.offset : member.offset + member.size]) for member in read_index(path).members]


@pytest.mark.parametrize("form", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    files=st.dictionaries(
        st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=300),
        st.binary(max_size=1030),
        min_size=1,
        max_size=5,
    ),
    mtime=st.sampled_from([0, 1.5]),
)
def test_members_are_where_tarfile_finds_them(tmp_path: Path, form: str, files: dict[str, bytes], mtime: float) -> None:
    if form == "ustar":
        files = {name.encode("ascii", "ignore").decode()[:90] or "x": data for name, data in files.items()}
    path = write(tmp_path / "a.tar", files, form, mtime)
    assert contents(path) == list(files.items())
    assert read_index(path).damage == ""
    with tarfile.open(path) as archive:
        expected = [(member.name, member.offset_data, member.size) for member in archive]
    assert [tuple(member) for member in read_index(path).members] == expected


def test_long_paths_of_ustar(tmp_path: Path) -> None:
    name = "/".join(["folder" * 8] * 3) + "/image.png"
    assert contents(write(tmp_path / "a.tar", {name: b"1"}, "ustar")) == [(name, b"1")]


def test_sizes_that_need_more_than_octal_digits(tmp_path: Path) -> None:
    """Of GNU tar and of pax; the data are a hole in the file."""
    size = 1 << 33
    for form in ("gnu", "pax"):
        member = tarfile.TarInfo("large.png")
        member.size = size
        path = tmp_path / f"{form}.tar"
        with path.open("wb") as file:
            file.write(member.tobuf(FORMATS[form]))
            start = file.tell()
            file.truncate(start + size)
            file.seek(0, 2)
            small = tarfile.TarInfo("small.png")
            file.write(small.tobuf(FORMATS[form]) + bytes(1024))
        assert [tuple(m) for m in read_index(path).members] == [
            ("large.png", start, size),
            ("small.png", start + size + 512, 0),
        ]


def test_links_and_devices_are_names_without_data(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    kinds = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    with tarfile.open(path, "w") as archive:
        for i, kind in enumerate(kinds):
            member = tarfile.TarInfo(f"{i}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("last.png"))
    members = read_index(path).members
    assert [member.name for member in members] == [*(f"{i}.png" for i in range(5)), "last.png"]
    assert [member.size for member in members] == [-1] * 5 + [0]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    member = tarfile.TarInfo("a\udcff.png")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(member)
    assert [member.name for member in read_index(path).members] == ["a\\xff.png"]


FILES = {"a.png": b"a" * 600, "b.png": b"b" * 600}  # three blocks each


@pytest.mark.parametrize(
    ("length", "found", "damage"),
    [
        (6 * 512, ["a.png", "b.png"], "the archive ends without an end mark (at byte 3072 of 3072)"),
        (6 * 512 - 400, ["a.png", "b.png"], "the archive ends without an end mark"),  # only padding is missing
        (5 * 512, ["a.png"], "a member of 600 bytes is cut off (at byte 1536 of 2560)"),
        (3 * 512 + 100, ["a.png"], "the archive ends without an end mark"),
        (100, [], "the archive ends without an end mark"),
        (0, [], "the archive ends without an end mark"),
    ],
)
def test_cut_off(tmp_path: Path, length: int, found: list[str], damage: str) -> None:
    path = write(tmp_path / "a.tar", FILES)
    path.write_bytes(path.read_bytes()[:length])
    index = read_index(path)
    assert [member.name for member in index.members] == found
    assert damage in index.damage


def header(**changes: bytes) -> bytes:
    """Of a file of one byte, with some of its fields replaced and the checksum right."""
    member = tarfile.TarInfo("x.png")
    member.size = 1
    data = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    places = {"size": 124, "type": 156}
    for name, value in changes.items():
        data[places[name] : places[name] + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"junk" * 128, "what should be a header is none"),
        (header(size=b"-0000000001\0"), "a member of -1 bytes is cut off"),
        (header(size=b"\xff" * 12), "a member of -1 bytes is cut off"),
        (header(size=b"\x80" + b"\xff" * 11), "is cut off"),
        (header(size=b"99999999999\0"), "what should be a header is none"),
        (header(type=b"S"), "'x.png' is a sparse file, which is not supported"),
        (header(type=b"L", size=b"\x80" + (1 << 21).to_bytes(11, "big")) + bytes(1 << 21), "a name of 2097152 bytes"),
        (header(type=b"x") + b"9".ljust(512, b"\0"), "pax records that cannot be read"),
        (header(type=b"x", size=b"00000000010\0") + b"0 path=".ljust(512, b"\0"), "pax records that cannot be read"),
        (header(type=b"x", size=b"00000000020\0") + b"16 size=-123456\n".ljust(512, b"\0") + header(), "is cut off"),
    ],
)
def test_what_comes_before_damage_is_kept(tmp_path: Path, bad: bytes, why: str) -> None:
    path = write(tmp_path / "a.tar", FILES)
    path.write_bytes(path.read_bytes()[: 3 * 512] + bad + bytes(1024))
    index = read_index(path)
    assert [member.name for member in index.members] == ["a.png"]
    assert why in index.damage


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_makes_it_fail_or_point_outside(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path / "a.tar", FILES, "pax", 1.5)
    content = bytearray(path.read_bytes())[: 12 * 512]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for member in read_index(path).members:
        assert member.size == -1 or 0 <= member.offset <= member.offset + member.size <= len(content)


def test_is_tar(tmp_path: Path) -> None:
    assert is_tar(write(tmp_path / "a", FILES))
    (tmp_path / "b").write_bytes(b"x" * 2000)
    (tmp_path / "c").write_bytes(b"")
    assert not is_tar(tmp_path / "b")
    assert not is_tar(tmp_path / "c")
