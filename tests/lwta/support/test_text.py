"""Names that come from anywhere, on the terminal and in files of words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwta.dissection import Concepts
from lwta.dissection.recording.loading import Skipped
from lwta.dissection.recording.recording import warn_of_skipped
from lwta.support.tables import Column, text_table
from lwta.support.text import printable, read_lines
from tests.support.worlds import dissected

HOSTILE = {
    "\x1b[31mred\x1b[2J": r"\x1b[31mred\x1b[2J",
    "a\tb\nc\rd": r"a\tb\nc\rd",
    "\x9b31m\x07\x00\x7f": r"\x9b31m\x07\x00\x7f",
    "a\u202eb\u2066c\u2028d": r"a\u202eb\u2066c\u2028d",
    "caf\udce9": r"caf\udce9",
}
HARMLESS = ["polar bear", "Eisbär", "シロクマ", "👩‍👧", "a\u00a0b", "e\u0301"]
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("name", [*HOSTILE, *HARMLESS])
def test_what_a_terminal_would_obey_is_escaped(name: str) -> None:
    assert printable(name) == HOSTILE.get(name, name)


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_would_obey_is_printed(text: str) -> None:
    assert not OBEYED.search(printable(text))


def test_columns_of_any_names_are_aligned() -> None:
    names = [*HOSTILE, "シロクマ", "e\u0301"]
    lines = text_table([Column("name\x1b", names), Column("n", ["1"] * len(names), right=True)]).split("\n")
    assert len(lines) == 1 + len(names)
    assert not any(OBEYED.search(line) for line in lines)
    width = len(r"a\u202eb\u2066c\u2028d")
    assert [line.index("1") for line in lines[1:-2] if "31m" not in line] == [width + 2] * 3
    assert lines[-2] == "シロクマ" + " " * (width - 8 + 2) + "1"
    assert lines[-1] == "e\u0301" + " " * (width - 1 + 2) + "1"


def test_a_printed_dissection_escapes_its_concepts() -> None:
    result = dissected()
    object.__setattr__(result.concepts, "names", ("\x1b[31mred", "b\u202e", "c\nc", "d\x9b"))
    printed = str(result)
    assert r"\x1b[31mred" in printed
    assert not OBEYED.search(printed.replace("\n", ""))
    assert len(printed.split("\n")) == len(str(dissected()).split("\n"))


def test_warnings_escape_names() -> None:
    with pytest.warns(UserWarning, match="1 duplicate concepts of") as warned:
        Concepts(["a\x1b", "a\x1b"], source="\x1b[2J.txt")
    with pytest.warns(UserWarning, match="1 of 2 images of") as skipped:
        warn_of_skipped("\x1b[2J", 1, [Skipped("\x1b.png", "no image \x1b[31m")])
    for message in (str(warned[0].message), str(skipped[0].message)):
        assert r"\x1b[2J" in message
        assert not OBEYED.search(message)


def test_lines_end_where_files_end_them(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    inside = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
    names = [f"one{separator}four" for separator in inside]
    path.write_bytes("\n".join(names).encode() + b"\r\nfive\rsix\n\n")
    assert read_lines(path) == [*names, "five", "six"]
