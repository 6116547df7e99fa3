"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from lwta.support import files
from lwta.support.files import remove_abandoned, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "table.csv"
    for content in ("one", "two"):
        write_atomically(path, lambda temporary, text=content: temporary.write_text(text), durable=durable)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        assert path.read_text() == "before"
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_the_longest_kind_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".json")  # 245 bytes of the 255 that a name may have
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "whole")]


def test_a_temporary_file_that_is_taken_for_abandoned_too_early_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.append(descriptor)
            monkeypatch.setattr(fcntl, "flock", flock)
            remove_abandoned(tmp_path)  # another process, between the making and the locking
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write_atomically(tmp_path / "table", lambda temporary: temporary.write_text("whole"))
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    assert (tmp_path / "table").read_text() == "whole"
