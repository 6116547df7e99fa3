"""A trained network with competition, real photographs, real CLIP embeddings."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from lwta import set_eval_mode
from tests.support.photographs import draw_photographs
from tests.support.places import ROOT

EMBEDDINGS, PHOTOGRAPHS = "caltech101-val-clip-vit-b-32.npz", "caltech101-val.zip"
CHECKPOINT, CIFAR = "lwta-wrn34-cifar10.pt", "cifar10-part.zip"


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_output_neurons_are_named_right(
    shared_data: Path, examples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The photographs of ships are ketches and schooners: "sail" comes a little before "yacht", "boat" and "ferry"."""
    options = ["--checkpoint", CHECKPOINT, "--images", PHOTOGRAPHS, "--embeddings", EMBEDDINGS]
    options = [str(shared_data / option) if not option.startswith("--") else option for option in options]
    printed = run(examples, options, tmp_path / "new", capsys)
    for name, concepts in EXPECTED.items():
        label = printed[name].split("  (then ")[0]
        if name == "cat":  # of which there are hardly any photographs
            label = re.sub(r"no word fits \(closest: (.*)\)", r"\1", label)
        assert label in concepts
    assert {"yacht", "boat", "ferry"} & set(printed["ship"].rstrip(")").replace("(then ", ", ").split(", "))

    check_tables(tmp_path / "new")


def run(examples: ModuleType, options: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Run the example; the labels of the output neurons as printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dissect_real_network.py", *options, "--out", str(out)])
        examples.main()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(printed) == list(examples.CIFAR10)
    return printed


def check_tables(out: Path) -> None:
    header, *rows = (out / "lwta.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("layer,neuron,concept,score,wins,reason,words,r,")
    assert header.endswith(
        ",null_percentile,runner_up_1,runner_up_1_score,runner_up_2,runner_up_2_score,runner_up_3,"
        "runner_up_3_score,runner_up_4,runner_up_4_score"
    )
    assert [row.split(",")[:2] for row in rows] == [["lwta", str(neuron)] for neuron in range(64)]
    assert len((out / "fc.csv").read_text(encoding="utf-8").splitlines()) == 11


def test_a_checkpoint_of_the_authors_layout_is_dissected(
    examples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With random weights, so that the labels mean nothing."""
    from wide_resnet import WideResNet

    network = WideResNet()
    state = {**network.state_dict(), "lwta.temp": torch.tensor(0.67), "block1.layer.0.lwta1.temp": torch.tensor(0.67)}
    unused = {f"sub_{name}": value for name, value in state.items() if name.startswith("block1.")}
    content = {"model_state_dict": {**state, **unused}, "optimizer_state_dict": {}, "epoch": 3}
    torch.save(content, tmp_path / "checkpoint.pt")
    loaded = examples.load_wide_resnet(tmp_path / "checkpoint.pt")
    assert not loaded.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())

    photographs = draw_photographs(tmp_path / "photographs.zip", 12)
    with zipfile.ZipFile(photographs) as archive:
        keys = archive.namelist()
    features = {"image_features": torch.randn(12, 8).numpy(), "text_features": torch.randn(5, 8).numpy()}
    np.savez(tmp_path / "clip.npz", image_paths=keys, concepts=["a", "b", "c", "d", "e"], **features)
    files = {"--checkpoint": "checkpoint.pt", "--images": "photographs.zip", "--embeddings": "clip.npz"}
    options = [part for option, file in files.items() for part in (option, str(tmp_path / file))]
    printed = run(examples, options, tmp_path / "new", capsys)
    few = r"no word fits \(closest: [a-e]\)  \(then [a-e], [a-e], [a-e]\)"  # of 12 photographs
    assert all(re.fullmatch(few, labels) for labels in printed.values())
    check_tables(tmp_path / "new")
