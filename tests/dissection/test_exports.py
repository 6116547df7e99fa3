"""Findings in files: as JSON, as CSV for spreadsheets, and written whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dissect import dissected

from lwta.dissection import Dissection
from lwta.support.exports import as_csv, as_json, escaped_cell, unescaped_cell, write_file, write_json

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


def named(*names: str) -> Dissection:
    """A dissection by the similarity "cos" whose four concepts have other names."""
    result = dissected(similarity="cos")
    object.__setattr__(result.concepts, "names", names)
    return result


def test_a_csv_holds_no_formula_and_all_numbers(tmp_path: Path) -> None:
    names = ("=1+1", "-1\r=2", '@"x", y', "'+1")
    result = named(*names)
    result.to_csv(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [label for layer in result.layers for label in result.labels(layer)]
    assert len(rows) == len(labels)
    negative = 0
    for row, label in zip(rows, labels, strict=True):
        assert row["concept"].startswith("'")
        assert unescaped_cell(row["concept"]) == label.concept
        assert row["score"] == f"{label.score:.5f}"
        for place, (concept, score) in enumerate(label.runner_ups, 1):
            assert unescaped_cell(row[f"runner_up_{place}"]) == concept
            assert row[f"runner_up_{place}_score"] == f"{score:.5f}"
            negative += score < 0
    assert negative


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


def write_with(way: str, path: Path) -> None:
    if way == "json":
        write_json({"a": 1}, path)
    else:
        dissected().to_csv(path)


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
