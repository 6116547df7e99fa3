"""`lwta search` and `lwta evaluate`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwta import LWTA
from lwta.cli import main
from lwta.dissection import ClipEncoder, Concepts, dissect

TEXTS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two stores, with competition and without, and the embeddings both were filled with."""
    folder = tmp_path_factory.mktemp("stores")
    colours = [tuple(255 - i if channel == i % 3 else 0 for channel in range(3)) for i in range(24)]
    probe = [(f"{i:02d}", Image.new("RGB", (2, 2), colour)) for i, colour in enumerate(colours)]
    np.savez(
        folder / "clip.npz",
        image_paths=[key for key, _ in probe],
        image_features=np.eye(3, dtype=np.float32)[np.arange(24) % 3],
        concepts=TEXTS,
        text_features=np.eye(3, dtype=np.float32),
    )
    clip = ClipEncoder.from_embeddings(folder / "clip.npz")
    for name, act in {"lwta": LWTA(3, eval_mode="argmax"), "relu": torch.nn.ReLU()}.items():
        model = torch.nn.Sequential(torch.nn.Flatten(), act)
        dissect(
            *(model, "1", probe),
            clip=clip,
            concepts=Concepts(TEXTS),
            transform=mean_colour,
            store=folder / name,
            progress=False,
        )
    return folder


def mean_colour(image: Image.Image) -> torch.Tensor:
    return torch.tensor(image.getpixel((0, 0))).float() / 255


def run(stores: Path, command: str, *arguments: str, store: str = "lwta") -> int:
    return main([command, str(stores / store), *arguments, "--clip", str(stores / "clip.npz")])


def test_search(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stores, "search", "green", "--n", "2") == 0
    heading, first, *others = capsys.readouterr().out.splitlines()
    assert heading.split() == ["layer", "neuron", "score", "its", "concept"]
    assert (first.split()[:2], first.split()[3]) == (["1", "1"], "green")
    assert len(others) == 1


def test_search_as_json(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stores, "search", "green", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == "green"
    assert found["neurons"][0]["neuron"] == 1


def test_audit(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(stores, "search", "--audit", "--json", str(tmp_path / "audit.json")) == 0
    assert "Every concept is carried by a neuron." in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text()) == {
        "concepts": 3,
        "shared": [],
        "missing": [],
        "divided": [],
    }


def test_evaluate(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Red\nblue\nBLUE\n")
    options = ("--class-names", str(tmp_path / "names.txt"), "--output-layer", "1")
    assert run(stores, "evaluate", *options, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identification"]["top1"] == pytest.approx(2 / 3)
    (layer,) = found["layers"]
    assert (layer["competitors"], layer["dead"], layer["winner_entropy"]) == (3, 0, pytest.approx(1))
    assert layer["auc"] > 0.8  # images of one colour are alike to CLIP, and count a half


def test_evaluate_side_by_side(stores: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    assert run(stores, "evaluate", "--compare", str(stores / "relu"), str(stores / "relu"), "--json", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["network", "lwta", "relu", "relu"]
    assert list(json.loads(file.read_text())) == ["lwta", "relu", "relu 2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search",), "either a TEXT or --audit"),
        (("search", "red", "--audit"), "either a TEXT or --audit"),
        (("search", "gren"), "did you mean 'green'"),
        (("evaluate", "--held-out", "2"), "held_out must be a share"),
        (("evaluate", "--class-names", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_usage(stores: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(stores, *arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
