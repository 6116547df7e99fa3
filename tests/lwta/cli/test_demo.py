"""`lwta demo`, as typed: the claims of the first picture that a newcomer sees."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest

from lwta.cli import _COMMANDS, dissect, main
from lwta.models.digits import NAMES


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--json", "-"]) == 0
    captured = capsys.readouterr()
    findings = json.loads(captured.out)
    assert findings["accuracy"] >= 0.975
    assert [one["concept"] for one in findings["labels"]["output"]] == list(NAMES)
    assert [one["versus_name"] for one in findings["explanations"]] == [None, None, "one"]
    assert "Explaining one image" in captured.err
    assert "r: how well the words predict the neuron" in captured.err
    assert "no word fits (closest: " in captured.err
    for layer, labels in findings["labels"].items():
        named = [one for one in labels if one["concept"] is not None]
        assert all(one["r"] >= 0.2 and one["told_apart"] and one["reason"] is None for one in named)
        assert len(named) >= len(labels) / 5, layer
    command = captured.err[captured.err.index(" dissect --model") :].replace("\\\n", "")
    parser = argparse.ArgumentParser()
    dissect.add_arguments(parser)
    assert parser.parse_args(shlex.split(command)[1:]).layers == ["layer4"]  # what comes next can be typed
    assert {"index.html", "neurons.csv", "image-01.html", "image-03.html"} <= {path.name for path in tmp_path.iterdir()}


def test_every_subcommand_shows_examples_and_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    for name in _COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        text = capsys.readouterr().out
        assert ended.value.code == 0
        assert f"Examples:\n  lwta {name}" in text
        assert "--json FILE" in text
