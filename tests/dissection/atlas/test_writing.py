"""The pages of the atlas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lwta.dissection import Dissection, Embeddings, Explained, SoftWPMI
from tests.support.pages import EVIL, Page
from tests.support.worlds import ColourNetwork, dissected, embeddings, images


def atlas(result: Dissection, folder: Path, **options: object) -> dict[str, Page]:
    """Pages by file."""
    path = result.to_report(folder, **options)  # type: ignore[arg-type]
    assert path == folder / "index.html"
    return {path.name: Page(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}


def indexed(folder: Path) -> list[list[Any]]:
    """Rows that the search over all layers looks through."""
    text = (folder / "concepts.js").read_text(encoding="utf-8")
    rows: list[list[Any]] = json.loads(text.removeprefix("const CONCEPTS = ").removesuffix(";\n"))
    return rows


def test_every_neuron_and_its_top_images(tmp_path: Path) -> None:
    result = dissected()
    pages = atlas(result, tmp_path / "new" / "report")
    assert set(pages) == {"index.html", "layer-01.html", "layer-02.html"}
    for layer, page in zip(result.layers, ("layer-01.html", "layer-02.html"), strict=True):
        cards = [card for card in pages[page].all("details") if card.get("id")]
        assert [card["id"] for card in cards] == [f"neuron-{label.neuron}" for label in result.labels(layer)]
        for label in result.labels(layer):
            assert str(label.closest) in pages[page].text
    pictures = pages["layer-01.html"].all("img")
    assert pictures[0]["alt"] == result.top_images("act", 0, 1)[0][0]
    assert {picture["loading"] for picture in pictures} == {"lazy"}
    for attributes in pictures:
        with Image.open(tmp_path / "new" / "report" / str(attributes["src"])) as image:
            assert image.size == (6, 6)


def test_functions_of_outputs_are_told(tmp_path: Path) -> None:
    pages = atlas(dissected(layers=["act", "head", "head:identity"]), tmp_path)
    told = ["after softmax" in pages[f"layer-0{number}.html"].text for number in (1, 2, 3)]
    assert told == [False, True, False]
    assert pages["index.html"].text.count("after softmax") == 1
    layers = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert [layer["layer"] for layer in layers] == ["act", "head", "head:identity"]


def test_links_lead_somewhere(tmp_path: Path) -> None:
    result = dissected()
    explained = [Explained(key, image, result.explain(image)) for key, image in images(2)]
    pages = atlas(result, tmp_path, explained=explained)
    anchors = {f"{name}#{tag['id']}" for name, page in pages.items() for _, tag in page.tags if "id" in tag}
    for name, page in pages.items():
        for link in page.all("a"):
            file, _, fragment = str(link["href"]).partition("#")
            assert (file or name) in pages
            assert not fragment or f"{file or name}#{fragment}" in anchors
    assert "image-02.html" in {link["href"] for link in pages["index.html"].all("a")}


def test_an_explained_image(tmp_path: Path) -> None:
    result = dissected()
    key, image = images(1)[0]
    explanation = result.explain(image, class_names=["ships", "trucks", "frogs"])
    page = atlas(result, tmp_path, explained=[Explained(key, image, explanation)])["image-01.html"]
    assert explanation.class_name in page.text
    for evidence in explanation.evidence.values():
        for one in evidence:
            assert one.contribution == 0 or f"{one.contribution:+.3f}" in page.text


def test_heat_maps_and_draws(tmp_path: Path) -> None:
    model = ColourNetwork()
    model.mean = nn.Identity()  # type: ignore[assignment]
    model.flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # type: ignore[assignment]
    result = dissected(model, ["act"])
    key, image = images(2)[1]
    names = ["red", "green", "blue"]
    explanation = result.explain(image, class_names=names, target="green", versus="blue", draws=4)
    page = atlas(result, tmp_path, explained=[Explained(key, image, explanation)])["image-01.html"]
    text = " ".join(page.text.split())
    assert "Why green and not blue?" in text
    assert "over 4 draws of the winners" in text
    chance = explanation.probabilities[0]
    assert f"{100 * chance.mean:.1f} ± {100 * chance.std:.1f} %" in text
    first = explanation.evidence["act"][0]
    heat = next(image for image in page.all("img") if image["alt"] == f"Where neuron {first.neuron} is active")
    with Image.open(tmp_path / str(heat["src"])) as shown:
        assert shown.size == (160, 160)
        red, _, blue = shown.getpixel((80, 80))  # type: ignore[misc]
        assert red > blue  # it is active there, and its output is positive


def test_large_images_are_made_dissected(tmp_path: Path) -> None:
    shown = atlas(dissected(probe=images(3, size=400)), tmp_path)["layer-01.html"]
    with Image.open(tmp_path / str(shown.all("img")[0]["src"])) as image:
        assert max(image.size) == 128


def test_a_second_run_writes_the_same_files(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in dissected().to_report(tmp_path).parent.rglob("*") if path.is_file()}
    again = {path: path.read_bytes() for path in dissected().to_report(tmp_path).parent.rglob("*") if path.is_file()}
    assert first == again


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    folder = dissected().to_report(tmp_path).parent
    for path in folder.glob("*.*"):
        assert "http" not in path.read_text(encoding="utf-8")
        assert "@import" not in path.read_text(encoding="utf-8")


def test_markup_in_names_is_only_text(tmp_path: Path) -> None:
    keys = [f'../{EVIL}"{i}' for i in range(3)]
    clip = Embeddings(keys, torch.eye(3), [EVIL, "b"], torch.eye(3)[:2])
    probe = [(key, image) for key, (_, image) in zip(keys, images(3), strict=True)]
    result = dissected(probe=probe, clip=clip, concepts=[EVIL, "b"], similarity="soft_wpmi", abstain=False)
    explained = [Explained(keys[0], probe[0][1], result.explain(probe[0][1], class_names=[EVIL, "b", "c"]))]
    pages = atlas(result, tmp_path, title=EVIL, explained=explained)
    for page in pages.values():
        assert {script["src"] for script in page.all("script")} <= {"atlas.js", "concepts.js"}
        assert EVIL in page.text
    index = (tmp_path / "concepts.js").read_text(encoding="utf-8")
    assert "<" not in index
    assert EVIL in {row[0] for row in indexed(tmp_path)}
    assert all(re.fullmatch(r"[0-9a-f]{16}\.(png|jpg)", path.name) for path in (tmp_path / "images").iterdir())


def test_a_stream_has_no_pictures_but_keys(tmp_path: Path) -> None:
    clip = embeddings([key for key, _ in images(6)])
    shown = atlas(dissected(probe=iter(images(6)), clip=clip), tmp_path)["layer-01.html"]
    assert shown.all("img") == []
    assert "red/000.png" in shown.text


def test_dead_neurons_say_so(tmp_path: Path) -> None:
    shown = atlas(dissected(probe=images(1)), tmp_path)["layer-01.html"]
    assert "2 never active" in " ".join(shown.text.split())
    cards = {tag["id"]: str(tag["class"]) for tag in shown.all("details") if "id" in tag}
    assert [name for name, kind in cards.items() if "dead" in kind.split()] == ["neuron-1", "neuron-2"]
    assert "never won #1" in shown.text  # where a rival is told


def test_neurons_that_no_word_fits_say_why_and_are_not_dead(tmp_path: Path) -> None:
    result = dissected()
    shown = atlas(result, tmp_path)["layer-01.html"]
    text = " ".join(shown.text.split())
    unfit = [label for label in result.labels("act") if label.concept is None]
    assert unfit
    for label in unfit:
        assert f"Why no word fits: {label.reason}." in text
        assert f"closest: {label.closest}" in text
        assert f"{'yes' if label.told_apart else 'no'}, rank {label.rank} of 4" in text
        short = str(label.reason).partition(":")[0].replace("not told apart", f"rank {label.rank}")
        assert f"r {label.r:.2f} · {short}" in text
    cards = {tag["id"]: str(tag["class"]) for tag in shown.all("details") if "id" in tag}
    assert [name for name, kind in cards.items() if "unfit" in kind.split()] == [
        f"neuron-{one.neuron}" for one in unfit
    ]
    (act, _) = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert (act["dead"], act["no_word_fits"], act["labelled"]) == (0, len(unfit), 1 - len(unfit) / 4)
    rows = {row[3]: row for row in indexed(tmp_path) if row[2] == "act"}
    assert {neuron for neuron, row in rows.items() if not row[-1]} == {one.neuron for one in unfit}
    kinds = [row[-1] for row in indexed(tmp_path)]
    assert kinds == sorted(kinds, reverse=True)  # those that a word fits come first


def test_trust_stands_beside_controls(tmp_path: Path) -> None:
    result = dissected()
    pages = atlas(result, tmp_path)
    for number, layer in enumerate(json.loads((tmp_path / "layers.json").read_text(encoding="utf-8")), 1):
        labels = [label for label in result.labels(layer["layer"]) if label.rank is not None]
        assert layer["trust"]["told_apart"] == sum(label.told_apart for label in labels) / layer["neurons"]
        assert layer["trust"]["r"] == pytest.approx(sum(label.r for label in labels) / len(labels))
        names = [control["name"] for control in layer["controls"]]
        assert names == ["shuffled activations", "other neurons' words", "random rotation"]
        for page in (pages[f"layer-0{number}.html"], pages["index.html"]):
            text = " ".join(page.text.split())
            assert all(name in text for name in names)
            assert f"{layer['trust']['r']:.2f}" in text
    assert "r of the words in act" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_labels_that_are_not_specific_are_pointed_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 40))
    with torch.no_grad():  # forty neurons that see the red of the image above all
        model[1].weight.copy_(torch.eye(3)[0].repeat_interleave(36) + 0.02 * torch.randn(40, 108))
    pages = atlas(dissected(model, "1:identity"), tmp_path)
    (layer,) = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert layer["trust"]["told_apart"] < 0.2
    assert "the labels are not specific" in layer["verdict"]
    for page in pages.values():
        assert layer["verdict"] in " ".join(page.text.split())


def test_too_few_images_to_check_are_told(tmp_path: Path) -> None:
    pages = atlas(dissected(probe=images(9)), tmp_path)
    for page in (pages["layer-01.html"], pages["index.html"]):
        assert "9 images are too few to judge labels on" in " ".join(page.text.split())
    layers = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert [(layer["trust"]["r"], layer["controls"], layer["dead"]) for layer in layers] == [(None, [], 0)] * 2


def test_a_labeler_of_ones_own_has_no_controls(tmp_path: Path) -> None:
    class Mine(SoftWPMI):
        name = "mine"

    atlas(dissected(similarity=Mine), tmp_path)
    layers = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    assert [(layer["similarity"], layer["controls"]) for layer in layers] == [("mine", [])] * 2
    assert all(layer["trust"]["r"] is not None for layer in layers)


def test_top_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        dissected().to_report(tmp_path, top=0)
