"""`lwta doctor`: it tells what is there, and its exit code what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lwta.cli import doctor, main


def test_a_sound_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == []
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    assert report["clip"]["tiny"] == "opens"
    assert report["kernels"]["forward"] == report["kernels"]["backward"] == "agrees with the definition"
    assert all(title in printed for title in ("versions", "devices", "kernels", "clip", "Nothing is wrong."))


def test_json_on_standard_output_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_a_wrong_competition_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor.functional, "lwta", lambda x, competitors, seed: x * 1)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "problem: the forward pass of the competition on" in printed
    assert "differs from the definition" in printed


def test_a_crash_is_told_and_no_more(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crash(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(doctor.functional, "lwta", crash)
    assert main(["doctor"]) == 1
    assert "fails: no kernel image is available\n" in capsys.readouterr().out


def test_an_unknown_clip_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--clip", "ViT-B-61/openai"]) == 1
    assert "problem: name must be 'tiny' or 'MODEL/PRETRAINED'" in capsys.readouterr().out


def test_a_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "surely-not-there"))
    assert doctor.versions()["problems"] == ["surely-not-there is not installed: pip install surely-not-there"]
