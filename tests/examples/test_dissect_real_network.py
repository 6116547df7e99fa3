"""A trained network with competition, real photographs, real CLIP embeddings."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from lwta import set_eval_mode
from tests.support.places import ROOT

EMBEDDINGS, PHOTOGRAPHS = "caltech101-val-clip-vit-b-32.npz", "caltech101-val.zip"
CHECKPOINT, CIFAR = "lwta-wrn34-cifar10.pt", "cifar10-part.zip"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        import dissect_real_network

        return dissect_real_network


def accuracy(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    with torch.inference_mode():
        logits = torch.cat([model(part.float() / 255) for part in inputs.split(250)])
    return (logits.argmax(1) == targets).double().mean().item()


def test_accuracy(shared_data: Path, examples: ModuleType) -> None:
    """200 test images of each class; the network needs its winners sampled."""
    pixels, targets = [], []
    with zipfile.ZipFile(shared_data / CIFAR) as archive:
        for target, name in enumerate(examples.CIFAR10):
            files = sorted(file for file in archive.namelist() if file.startswith(f"test/{name}/"))
            for file in files[:200]:
                with archive.open(file) as data, Image.open(data) as image:
                    pixels.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))
                targets.append(target)
    inputs, expected = torch.stack(pixels), torch.tensor(targets)
    assert len(inputs) == 2000

    model = examples.load_wide_resnet(shared_data / CHECKPOINT)
    sampled = accuracy(model, inputs, expected)
    set_eval_mode(model, "argmax")
    greedy = accuracy(model, inputs, expected)
    print(f"sampled {sampled:.4f}, argmax {greedy:.4f}")
    assert sampled >= 0.82
    assert sampled >= greedy + 0.05


EXPECTED = {
    "airplane": {"airplane", "jet plane", "fighter jet", "seaplane"},
    "automobile": {"convertible (automobile)", "car (automobile)", "motor vehicle", "race car", "minivan"},
    "cat": {"cougar", "cat", "tiger", "kitten", "lion"},
    "deer": {"gazelle", "deer", "elk"},
    "ship": {"sail", "yacht", "boat", "ferry", "passenger ship"},
}


def test_output_neurons_are_named_right(
    shared_data: Path, examples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The photographs of ships are ketches and schooners: "sail" comes a little before "yacht", "boat" and "ferry"."""
    options = ["--checkpoint", CHECKPOINT, "--images", PHOTOGRAPHS, "--embeddings", EMBEDDINGS]
    options = [str(shared_data / option) if not option.startswith("--") else option for option in options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dissect_real_network.py", *options, "--out", str(tmp_path / "new")])
        examples.main()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(printed) == list(examples.CIFAR10)
    for name, concepts in EXPECTED.items():
        assert printed[name].split("  (then ")[0] in concepts
    assert {"yacht", "boat", "ferry"} & set(printed["ship"].rstrip(")").replace("(then ", ", ").split(", "))

    header, *rows = (tmp_path / "new" / "lwta.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("layer,neuron,concept,score,wins,runner_up_1")
    assert [row.split(",")[:2] for row in rows] == [["lwta", str(neuron)] for neuron in range(64)]
    assert len((tmp_path / "new" / "fc.csv").read_text(encoding="utf-8").splitlines()) == 11
