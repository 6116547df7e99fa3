"""`lwta search`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import ended_badly, run_on


def test_search(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "search", "green", "--n", "2") == 0
    heading, first, *others = capsys.readouterr().out.splitlines()
    assert heading.split() == ["layer", "neuron", "score", "its", "concept"]
    assert (first.split()[:2], first.split()[3]) == (["1", "1"], "green")
    assert len(others) == 1


def test_search_as_json(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "search", "green", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == "green"
    assert found["neurons"][0]["neuron"] == 1


def test_audit(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_on(stores, "search", "--audit", "--json", str(tmp_path / "audit.json")) == 0
    assert "Every concept is carried by a neuron." in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text()) == {
        "concepts": 3,
        "shared": [],
        "missing": [],
        "divided": [],
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
