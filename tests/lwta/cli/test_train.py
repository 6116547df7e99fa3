"""`lwta train`, from an archive of images to a network that is loaded again."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from lwta import load_model
from lwta.cli import main


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as file:
        for split, number in (("train", 8), ("test", 4)):
            for name, value in (("bright", 250), ("dark", 5)):
                for place in range(number):
                    data = io.BytesIO()
                    Image.new("RGB", (8, 8), (value - place % 3,) * 3).save(data, "PNG")
                    file.writestr(f"{split}/{name}/{place}.png", data.getvalue())
    return path


@pytest.mark.slow
def test_train(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "resnet20", "--competitors", "4", "--input-size", "8", "--epochs", "6", "--batch-size", "8"]
    command = ["train", str(archive), "--out", str(tmp_path / "run"), *options, "--lr", "0.05", "--device", "cpu"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[:3]] == ["sample", "average", "argmax"]
    assert main(command) == 0  # nothing is left to train
    assert capsys.readouterr().out == first
    assert main([*command, "--json", "-"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert first in captured.err  # what is said to people gives way
    assert f"top-1 {found['evaluations']['average']['top1']:.2%}" in first.splitlines()[1]
    model = load_model(found["model"])
    assert (model.lwta_config.competitors, model.lwta_config.class_names) == (4, ("bright", "dark"))
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_errors_end_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "absent.zip"), "--out", str(tmp_path / "run")])
    assert "lwta train: data must be a folder" in capsys.readouterr().err
