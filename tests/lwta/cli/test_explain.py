"""`lwta explain`, as typed."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lwta import create_model, save_model
from lwta.cli import main
from lwta.cli._networks import find_model
from lwta.cli.explain import _class_names, _write_maps
from lwta.dissection import Explained, explain, open_store
from lwta.dissection.explaining import Evidence
from tests.support.command_line import refused

NETWORK = """
import torch
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from lwta import LWTA


def to_tensor(image):
    return pil_to_tensor(image.resize((8, 8))).float() / 255


def network(competitors=4, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 12, 3), LWTA(competitors), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)]
    return nn.Sequential(*layers), to_tensor


def without_transform():
    return network()[0]


def other_weights():
    return network(seed=1)


def other_blocks():
    return network(competitors=3)
"""
NAMES = ["ship", "truck", "shark"]
EXPLAIN = ["explain", "probe/03.png", "--model", "mine.py:network", "--store", "store"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, images, and a recorded dissection."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        Path("mine.py").write_text(NETWORK)
        Path("names.txt").write_text("\n".join(NAMES))
        Path("probe").mkdir()
        for i in range(12):
            Image.new("RGB", (16, 12), (i * 20, 255 - i * 20, (i * 70) % 256)).save(f"probe/{i:02d}.png")
        Path("broken.png").write_bytes(b"no image")
        typed = ["dissect", "--model", "mine.py:network", "--layers", "1", "4", "--probe", "probe", "--out", "a.csv"]
        assert main([*typed, "--store", "store"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 0
    return capsys.readouterr().out


def test_says_what_explain_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = find_model("mine.py:network")
    with Image.open("probe/03.png") as image:
        expected = explain(
            *(found.model, image, open_store("store", concepts="tiny")),
            transform=found.transform,
            class_names=NAMES,
            target="truck",
            versus="shark",
            draws=5,
            seed=2,
        )
    options = ["--class-names", "names.txt", "--draws", "5", "--seed", "2", "--top", "4"]
    for target, versus in (("truck", "shark"), ("1", "2")):
        asked = [*EXPLAIN, *options, "--target", target, "--versus", versus]
        assert printed(capsys, *asked) == f"probe/03.png\n{expected.table(4)}\n"
    assert json.loads(printed(capsys, *asked, "--json", "-")) == [{"image": "probe/03.png", **expected.to_dict(rows=4)}]
    assert "explained: truck rather than shark" in printed(capsys, *asked, "--json", "why.json")
    assert json.loads(Path("why.json").read_text(encoding="utf-8"))[0]["target_name"] == "truck"


def test_several_images_and_some_layers(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, *EXPLAIN[:2], "probe/07.png", *EXPLAIN[2:], "--layers", "4", "--json", "-")
    read = json.loads(text)
    assert [one["image"] for one in read] == ["probe/03.png", "probe/07.png"]
    assert [list(one["evidence"]) for one in read] == [["4"], ["4"]]
    assert all(one["draws"] == 6 for one in read)
    assert read[0]["class_name"] == f"class {read[0]['predicted']}"


def test_heat_maps_and_pages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    maps, atlas = tmp_path / "maps", tmp_path / "atlas"
    written = ["--heat-maps", str(maps), "--report", str(atlas), "--probe", "probe", "--top", "2"]
    written += ["--pages", str(tmp_path / "pages")]
    read = json.loads(printed(capsys, *EXPLAIN, *written, "--json", "-"))
    neurons = [one["neuron"] for one in read[0]["evidence"]["1"]]
    assert sorted(path.name for path in maps.iterdir()) == [
        f"01-03-1-{rank:02d}-{neuron}.png" for rank, neuron in enumerate(neurons, 1)
    ]
    with Image.open(next(maps.iterdir())) as picture:
        assert picture.size == (384, 384)
    assert "probe/03.png" in (atlas / "image-01.html").read_text(encoding="utf-8")
    assert (atlas / "index.html").is_file()
    assert "probe/03.png" in (tmp_path / "pages" / "01-03.html").read_text(encoding="utf-8")


def test_names_that_are_not_utf8_or_have_line_breaks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = Path("probe/03.png").read_bytes()
    names = [b"caf\xe9.png", b"new\nline\x1b[31m%.png", b"back\\slash.png"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(picture)
    files = [os.fsdecode(name) for name in names]
    pages, atlas, maps = tmp_path / "pages", tmp_path / "atlas", tmp_path / "maps"
    written = ["--pages", str(pages), "--report", str(atlas), "--probe", "probe", "--heat-maps", str(maps)]
    asked = ["explain", *files, *EXPLAIN[2:], "--top", "1", "--layers", "1"]
    printed(capsys, *asked, *written, "--json", str(tmp_path / "why.json"))
    assert [one["image"] for one in json.loads((tmp_path / "why.json").read_text(encoding="utf-8"))] == files
    stems = ["01-caf%DCE9", "02-new%0Aline%1B[31m%25", "03-back%5Cslash"]
    assert sorted(path.name for path in pages.iterdir()) == [f"{stem}.html" for stem in stems]
    assert [path.name.rpartition("-1-01-")[0] for path in sorted(maps.iterdir())] == stems
    assert r"caf\udce9.png" in (pages / "01-caf%DCE9.html").read_text(encoding="utf-8")
    read = json.loads(printed(capsys, *asked, "--json", "-"))
    assert [one["image"] for one in read] == files
    text = printed(capsys, *asked)
    assert r"caf\udce9.png" in text
    assert r"new\nline\x1b[31m%.png" in text
    assert "\x1b" not in text
    assert r"IMAGE must be a file, there is none \x1b.png" in refused(capsys, "explain", "\x1b.png", *EXPLAIN[2:])


def test_layer_names_in_names_of_heat_maps(tmp_path: Path) -> None:
    where = torch.ones(2, 2)
    layers = {name: [Evidence(name, 0, "dog", 1, 1, 1, where)] for name in ("../a/b", "../a%2Fb", "c\nd")}
    with Image.open("probe/03.png") as image:
        found = find_model("mine.py:network")
        explanation = explain(found.model, image, open_store("store", concepts="tiny"), transform=found.transform)
    explained = Explained("03.png", None, replace(explanation, evidence=layers))
    assert _write_maps([explained], tmp_path / "maps", 5) == 3
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "01-03-..%2Fa%252Fb-01-0.png",
        "01-03-..%2Fa%2Fb-01-0.png",
        "01-03-c%0Ad-01-0.png",
    ]


def test_networks_that_were_not_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    for model, part in (("other_weights", "weights"), ("other_blocks", "architecture")):
        message = refused(capsys, *EXPLAIN, "--model", f"mine.py:{model}")
        assert f"model must be the network that was recorded in store/Sequential; it has another {part}" in message


@pytest.mark.slow
def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*changes: str) -> str:
        return refused(capsys, *EXPLAIN, *changes)

    named = ["--class-names", "names.txt"]
    assert "target must be a class, 'shipp' is none; did you mean 'ship'" in said(*named, "--target", "shipp")
    assert "versus must be 0…2, got 3" in said("--versus", "3")
    assert "versus must be another class than the one explained" in said("--target", "1", "--versus", "1")
    assert "class_names were not given" in said("--target", "ship")
    assert "class_names must name the 3 classes of the model, got 1000" in said("--class-names", "imagenet")
    assert "there is no file none.txt" in said("--class-names", "none.txt")
    assert "draws must be at least 1" in said("--draws", "0")
    assert "--top must be at least 1, got 0" in said("--top", "0")
    assert "layers must be recorded in store/Sequential, '3' is not" in said("--layers", "3")
    assert "there is no network in nowhere" in said("--store", "nowhere")
    assert "transform must be given" in said("--model", "mine.py:without_transform")
    image = ["explain", "broken.png", *EXPLAIN[2:]]
    assert "IMAGE must be an image, broken.png cannot be read: UnidentifiedImageError" in refused(capsys, *image)
    assert refused(capsys, *image).endswith("cannot identify image file\n")  # and no place in memory
    assert "IMAGE must be a file, there is none ship.png" in refused(capsys, "explain", "ship.png", *EXPLAIN[2:])


def test_only_regular_files_are_explained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name, kind in (("pipe.png", "a pipe"), ("zero.png", "a device")):
        message = refused(capsys, "explain", str(tmp_path / name), *EXPLAIN[2:])
        assert message.endswith(f"{name} cannot be read: {kind}, not a regular file\n")


def test_grey_of_16_bits_is_explained_as_that_of_8(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("L", (16, 12), 128).save(tmp_path / "8.png")
    Image.new("I;16", (16, 12), 32768).save(tmp_path / "16.png")
    texts = [printed(capsys, "explain", str(tmp_path / f"{bits}.png"), *EXPLAIN[2:]).split("\n", 1) for bits in (8, 16)]
    assert texts[0][1] == texts[1][1]
    found = find_model("mine.py:network")
    dissection = open_store("store", concepts="tiny")
    for bits in (8, 16):
        with Image.open(tmp_path / f"{bits}.png") as image:
            assert explain(found.model, image, dissection, transform=found.transform, draws=6).table() in texts[0][1]


def test_class_names_of_networks(tmp_path: Path) -> None:
    model = create_model("resnet20", 4, class_names=NAMES)
    assert _class_names(None, find_model(str(save_model(model, tmp_path / "saved"))).model) == tuple(NAMES)
    assert _class_names("names.txt", model) == NAMES
    assert _class_names(None, create_model("resnet20", 4)) is None
    imagenet = _class_names(None, find_model("timm:resnet18", weights=False).model)
    assert imagenet is not None
    assert (len(imagenet), imagenet[1]) == (1000, "goldfish")
    assert _class_names(None, torch.nn.Linear(2, 1000)) is None
