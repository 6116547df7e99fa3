"""`lwta evaluate`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import ended_badly, run_on


def test_evaluate(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Red\nblue\nBLUE\n")
    options = ("--class-names", str(tmp_path / "names.txt"), "--output-layer", "1")
    assert run_on(stores, "evaluate", *options, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identification"]["top1"] == pytest.approx(2 / 3)
    (layer,) = found["layers"]
    assert (layer["competitors"], layer["dead"], layer["winner_entropy"]) == (3, 0, pytest.approx(1))
    assert (layer["labelled"], layer["told_apart"], layer["similarity"]) == (1, 1, "linear")
    assert layer["r"] > 0.9
    names = [control["name"] for control in layer["controls"]]
    assert names == ["shuffled activations", "other neurons' words", "random rotation"]


def test_a_control_is_another_store(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "evaluate", "--control", str(stores / "relu"), "--json", "-") == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["controls"][-1]["name"] == "relu"


def test_controls_can_be_left_out(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(stores, "evaluate", "--no-controls", "--json", "-") == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["controls"] == []
    assert layer["r"] > 0.9


def test_evaluate_side_by_side(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    assert run_on(stores, "evaluate", "--compare", str(stores / "relu"), str(stores / "relu"), "--json", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["network", "lwta", "relu", "relu"]
    assert list(json.loads(file.read_text())) == ["lwta", "relu", "relu 2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--held-out", "2"), "unrecognized arguments: --held-out"),
        (("--control", "nowhere"), "there is no network in nowhere"),
        (("--no-controls", "--control", "untrained"), "--control: not allowed with argument --no-controls"),
        (("--words", "0"), "words must be 1…10, got 0"),
        (("--words", "3", "--similarity", "cos"), "--words is for --similarity linear"),
        (("--class-names", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_usage(stores: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in ended_badly(capsys, stores, "evaluate", *arguments)
