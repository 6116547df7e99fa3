"""Findings in files: as JSON, as CSV for spreadsheets, and written whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwta.dissection import Dissection
from lwta.support.exports import as_csv, as_json, escaped_cell, unescaped_cell, write_file, write_json
from tests.support.worlds import dissected

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\rx", "\nx", " =1+1", "\u00a0@x", "＝1+1", "=cmd|' /C calc'!A0"]


def test_formulas_are_escaped_and_nothing_else() -> None:
    for text in FORMULAS:
        assert escaped_cell(text) == f"'{text}"
    for text in ("", "dog", "'tis", "a=b", "1-1", "«=»"):
        assert escaped_cell(text) == text


@given(st.text("'=+-@\t\r\n a1") | st.text())
def test_escaped_cells_have_a_way_back(text: str) -> None:
    assert unescaped_cell(escaped_cell(text)) == text
    assert not escaped_cell(text).lstrip().startswith(("=", "+", "-", "@"))


def test_csv_reads_back(tmp_path: Path) -> None:
    rows = [["a", 'b"c', "d,e"], ["f\ng", "h\ri", ""], ["", "", "j\r\nk"]]
    write_file(tmp_path / "x.csv", as_csv(rows))
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.reader(file)) == rows


@given(st.text(st.characters()))
def test_json_reads_back_and_holds_nothing_that_a_terminal_would_obey(text: str) -> None:
    written = as_json([text])
    assert json.loads(written) == [text]
    written.encode()
    assert all(character == "\n" or character.isprintable() or ord(character) > 0x9F for character in written)


@cache
def labelled() -> Dissection:
    return dissected()


def write_with(way: str, path: Path) -> None:
    if way == "json":
        write_json({"a": 1}, path)
    else:
        labelled().to_csv(path)


@pytest.mark.parametrize("way", ["json", "csv"])
def test_a_write_that_fails_leaves_what_was_there(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels"
    path.write_text("before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/labels'$") as error:
        write_with(way, path)
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", ["json", "csv"])
def test_devices_pipes_and_links_are_written_straight(way: str, tmp_path: Path) -> None:
    regular, link, pipe = tmp_path / "regular", tmp_path / "link", tmp_path / "pipe"
    write_with(way, regular)
    link.symlink_to("target")
    write_with(way, link)
    assert link.is_symlink()
    assert link.read_bytes() == regular.read_bytes()
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_with(way, pipe)
    reader.join()
    assert read == [regular.read_bytes()]
    write_with(way, Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    with (tmp_path / "redirected").open("wb") as file:  # as the shell does with /dev/stdout
        write_with(way, Path(f"/dev/fd/{file.fileno()}"))
    assert (tmp_path / "redirected").read_bytes() == regular.read_bytes()


@pytest.mark.parametrize("way", ["json", "csv"])
def test_errors_name_the_path(way: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
        write_with(way, Path("/dev/full"))
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_with(way, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_with(way, tmp_path / "file" / "labels")
    write_with(way, tmp_path / "new" / "labels")
    assert (tmp_path / "new" / "labels").is_file()


def test_a_folder_that_is_read_only_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, data: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", forbidden)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/labels\.json'$"):
        write_json({}, tmp_path / "labels.json")
