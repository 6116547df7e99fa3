"""`lwta dissect` and `lwta relabel`, as typed."""

from __future__ import annotations

import csv
import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lwta import competitions, create_model, save_model
from lwta.cli import main
from lwta.cli._networks import find_model
from tests.support.command_line import refused, started

NETWORK = """
import time

import torch
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from lwta import LWTA


def to_tensor(image):
    return pil_to_tensor(image.resize((8, 8))).float() / 255


def slowly(image):
    time.sleep(0.05)
    return to_tensor(image)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3), LWTA(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


def with_transform():
    return network(), to_tensor


def nothing():
    return 3
"""
PROBE = 24


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and a probe, to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("mine.py").write_text(NETWORK)
    Path("probe").mkdir()
    for i in range(PROBE):
        Image.new("RGB", (9, 9), (i * 10, 255 - i * 10, (i * 70) % 256)).save(f"probe/{i:02d}.png")
    return tmp_path


MODEL = ["--model", "mine.py:with_transform"]
TYPICAL = ["dissect", *MODEL, "--layers", "1", "4", "--probe", "probe", "--batch-size", "4", "--shard-images", "8"]


def test_dissect_and_relabel(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TYPICAL, "--store", "store", "--out", "a/one.csv", "--report", "report"]) == 0
    assert "a/one.csv" in capsys.readouterr().out
    assert Path("report/index.html").is_file()
    assert main([*TYPICAL, "--out", "two.csv"]) == 0
    assert Path("a/one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert len(Path("two.csv").read_text().splitlines()) == 1 + 12 + 5

    for path in Path("probe").iterdir():
        path.unlink()
    Path("words.txt").write_text("red\ngreen\nblue\n")
    assert main(["relabel", "store", "--out", "three.csv"]) == 0
    assert Path("three.csv").read_bytes() == Path("two.csv").read_bytes()
    capsys.readouterr()
    assert main(["relabel", "store", "--concepts", "words.txt", "--similarity", "cos", "--layers", "4"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("4: 5 neurons after softmax, 24 images, 3 concepts")
    assert "circle" not in printed

    assert main(["relabel", "store", "--out", "four.csv", "--json", "-"]) == 0
    labels = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader(Path("two.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["layer"], row["concept"]) for row in rows] == [
        (layer, one["concept"] or "") for layer, found in labels.items() for one in found
    ]
    assert [row["score"] for row in rows] == [
        "" if one["score"] is None else f"{one['score']:.5f}" for found in labels.values() for one in found
    ]


def test_a_file_that_cannot_be_written_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TYPICAL, "--store", "store", "--out", "/dev/null", "--json", "/dev/null"]) == 0
    Path("words.txt").write_text("\x1b[31mred\n=1+1\nblue\n")
    relabel = ["relabel", "store", "--concepts", "words.txt"]
    for option in ("--out", "--json"):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([*relabel, option, "/dev/full"])
        assert stopped.value.code == 1
        message = "lwta relabel: [Errno 28] No space left on device: '/dev/full'\n"
        assert capsys.readouterr().err.endswith(message)
    assert main(relabel) == 0
    printed = capsys.readouterr().out
    assert r"\x1b[31mred" in printed
    assert "\x1b" not in printed
    assert main([*relabel, "--out", "/dev/stdout"]) == 0


def test_layers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissect", *MODEL, "--list-layers"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[:3] == [["layer", "type", "competitors"], ["0", "Conv2d", "–"], ["1", "LWTA", "4"]]
    assert main(["dissect", *MODEL, "--layers", "[14]", "--probe", "probe"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "neurons" in line] == ["1", "4"]


def test_layers_with_functions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TYPICAL, "--layers", "[14]:identity", "4", "4:sigmoid", "--store", "store", "--json", "-"]) == 0
    keys = ["1:identity", "4:identity", "4", "4:sigmoid"]
    assert list(json.loads(capsys.readouterr().out)) == keys
    assert main(["relabel", "store", "--layers", *keys[:2], "4:softmax", "--out", "labels.csv"]) == 0
    rows = csv.DictReader(Path("labels.csv").read_text(encoding="utf-8").splitlines())
    assert list(dict.fromkeys(row["layer"] for row in rows)) == [*keys[:2], "4:softmax"]
    capsys.readouterr()
    assert main(["search", "store", "red", "--layers", "4:softmax"]) == 0
    assert "4:softmax" in capsys.readouterr().out
    assert main(["evaluate", "store", "--layers", "4", "4:identity"]) == 0
    assert "4:identity" in capsys.readouterr().out
    image = next(Path("probe").iterdir())
    explain = ["explain", str(image), *MODEL, "--store", "store", "--layers", "1", "4", "4:identity", "--json", "-"]
    assert main(explain) == 0
    evidence = json.loads(capsys.readouterr().out)[0]["evidence"]
    assert list(evidence) == ["1", "4", "4:identity"]


def test_mistakes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*changes: str) -> str:
        return refused(capsys, *TYPICAL, *changes)

    assert "'9' is none" in said("--layers", "9")
    assert "no layer fits 'x*'" in said("--layers", "x*")
    assert "no layer fits 'x*:softmax'" in said("--layers", "x*:softmax")
    assert "the transform of '4' must be one of" in said("--layers", "4:softmx")
    assert "competitive layer must be 'auto' or 'identity', got '1:softmax'" in said("--layers", "1:softmax")
    assert "given once, got '4' more than once" in said("--layers", "4", "4:auto")
    assert "there is no prob" in said("--probe", "prob")
    assert "similarity must be one of" in said("--similarity", "near")
    assert "transform must be given" in said("--model", "mine.py:network")
    assert "mine.py has no function 'netwrk'; did you mean 'network'?" in said("--model", "mine.py:netwrk")
    assert "must return a torch.nn.Module, it returned int" in said("--model", "mine.py:nothing")
    assert "there is no file other.py" in said("--model", "other.py:network")
    assert "there is no module 'nowhere'" in said("--model", "nowhere:network")
    assert "timm has no model 'resnt18'; did you mean 'resnet18'" in said("--model", "timm:resnt18")
    assert "torchvision has no model 'resnet81'; did you mean" in said("--model", "torchvision:resnet81")
    assert "--model must be timm:NAME" in said("--model", "resnet18")
    assert "there is no file w.pt" in said("--checkpoint", "w.pt")
    assert "did you mean 'ViT-B-16" in said("--clip", "ViT-B_16/openai")
    assert "--layers must name" in refused(capsys, "dissect", *MODEL)
    assert "--probe must be" in refused(capsys, "dissect", *MODEL, "--layers", "1")
    assert "there is no network in nowhere" in refused(capsys, "relabel", "nowhere")
    assert main([*TYPICAL, "--store", "store"]) == 0
    message = said("--store", "store", "--seed", "5")
    assert "recorded with another seed (stored: 0; now: 5); give the network another name=" in message


def test_checkpoints(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {name: value + 1 for name, value in find_model("mine.py:network").model.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}}, "wrapped.pt")
    torch.save(state, "plain.pt")
    save_file(state, "weights.safetensors")
    for file in ("wrapped.pt", "plain.pt", "weights.safetensors"):
        found = find_model("mine.py:network", Path(file)).model.state_dict()
        assert all(torch.equal(found[name], state[name]) for name in state)

    torch.save({"0.weight": state["0.weight"], "0.bias": torch.zeros(3), "other": torch.zeros(1)}, "bad.pt")
    message = refused(capsys, *TYPICAL, "--checkpoint", "bad.pt")
    assert "the network of 4 tensors; missing: 4.weight, 4.bias; unexpected: other; of another shape: 0.bias" in message
    assert "see ignore" not in message
    torch.save(find_model("mine.py:network").model, "pickled.pt")
    assert "is no file of weights alone" in refused(capsys, *TYPICAL, "--checkpoint", "pickled.pt")
    torch.save([1, 2], "list.pt")
    assert "holds no state dict" in refused(capsys, *TYPICAL, "--checkpoint", "list.pt")


def test_networks_of_libraries(here: Path) -> None:
    timm_model, none = find_model("timm:resnet18", weights=False)
    assert none is None
    torch.save(timm_model.state_dict(), "timm.pt")
    found = find_model("timm:resnet18", Path("timm.pt")).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in timm_model.state_dict().items())
    _, transform = find_model("torchvision:squeezenet1_1", weights=False)
    assert transform is not None
    assert transform(Image.new("RGB", (300, 300))).shape == (3, 224, 224)


@pytest.mark.slow
def test_networks_of_this_package(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = create_model("resnet20", 4, class_names=("a", "b"))
    save_model(model, "saved")
    torch.save(create_model("resnet20", 8).state_dict(), "weights.pt")
    found = find_model("saved")
    assert all(torch.equal(value, found.model.state_dict()[name]) for name, value in model.state_dict().items())
    units = {
        text: {layer.competitors for _, layer in competitions(find_model(text, Path("weights.pt")).model)}
        for text in ("lwta:resnet20", "lwta:resnet20/8")
    }
    assert units == {"lwta:resnet20": {2}, "lwta:resnet20/8": {8}}
    torch.save(model.state_dict(), "two.pt")
    assert "fc.weight (2, 64) instead of (10, 64)" in refused(
        capsys, *TYPICAL, "--model", "lwta:resnet20", "--checkpoint", "two.pt"
    )
    assert "lwta:resnet20/4 comes without weights; give a file" in refused(
        capsys, *TYPICAL, "--model", "lwta:resnet20/4"
    )
    assert "with a number U of competitors, got 'x'" in refused(capsys, *TYPICAL, "--model", "lwta:resnet20/x")
    assert "lwta has no model 'resnt20'; did you mean 'resnet20'" in refused(
        capsys, *TYPICAL, "--model", "lwta:resnt20"
    )


@pytest.mark.slow
def test_a_dissection_that_is_stopped_says_how_to_go_on(here: Path) -> None:
    """By Ctrl-C; what the other signals do is seen where handlers and training are tested."""
    command = [*TYPICAL, "--store", "store", "--transform", "mine.py:slowly", "--out", "out.csv"]
    process = started("lwta", *command)
    deadline = time.monotonic() + 120
    while not list(here.glob("store/Sequential/shards/00000.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped; store keeps the shards that are complete, and the same command goes on from there" in said
    assert "Traceback" not in said
    complete = {
        path.stem for path in here.glob("store/Sequential/shards/*.json")
    }  # of the others a file may be there already
    files = [path for path in here.glob("store/Sequential/layers/*/*") if path.stem in complete]
    stored = {path: path.stat().st_mtime_ns for path in files}
    assert 0 < len(stored) < 6
    assert main(command) == 0
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in stored.items())


@pytest.mark.slow
def test_torchrun(here: Path) -> None:
    # another number of threads rounds products of matrices in another order; torchrun would set it to one
    assert main([*TYPICAL, "--out", "alone.csv"]) == 0
    processes = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lwta"]
    process = started(
        *processes, *TYPICAL, "--store", "store", "--out", "together.csv", OMP_NUM_THREADS=str(torch.get_num_threads())
    )
    printed, said = process.communicate(timeout=170)
    assert process.returncode == 0, said
    assert printed.count("Every neuron as a table") == 1
    assert Path("together.csv").read_bytes() == Path("alone.csv").read_bytes()
