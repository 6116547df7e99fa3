"""`lwta search`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import ended_badly, run_on


def test_search(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "search", "green", "--n", "2") == 0
    heading, first, *others = capsys.readouterr().out.splitlines()
    assert heading.split() == ["layer", "neuron", "score", "its", "concept", "r"]
    assert (first.split()[:2], first.split()[3]) == (["1", "1"], "green")
    assert len(others) == 1


def test_search_as_json(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "search", "green", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == "green"
    first = found["neurons"][0]
    assert (first["neuron"], first["concept"], first["closest"], first["reason"]) == (1, "green", "green", None)
    assert first["r"] > 0.9


def test_neurons_that_no_word_fits_say_so(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("green\nblue\n")  # none for red
    words = ("--concepts", str(tmp_path / "words.txt"))
    assert run_on(stores, "search", "blue", *words) == 0
    (red,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["1", "0"]]
    assert "no word fits" in red
    assert run_on(stores, "search", "--audit", *words) == 0
    assert "2 of 3 neurons have a label; of 1 no word fits." in capsys.readouterr().out


def test_audit(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_on(stores, "search", "--audit", "--json", str(tmp_path / "audit.json")) == 0
    assert "Every concept is carried by a neuron." in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text()) == {
        "concepts": 3,
        "shared": [],
        "missing": [],
        "divided": [],
        "neurons": 3,
        "dead": 0,
        "no_word_fits": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a TEXT or --audit"),
        (("red", "--audit"), "either a TEXT or --audit"),
        (("gren",), "did you mean 'green'"),
    ],
)
def test_bad_usage(stores: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in ended_badly(capsys, stores, "search", *arguments)
