"""The atlas, as files."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from fakes import embeddings, images
from PIL import Image
from test_dissect import dissected

from lwta.dissection import Dissection, Embeddings, Explained


class Page(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(result: Dissection, folder: Path) -> list[Page]:
    """The overview and the pages of the layers."""
    path = result.to_report(folder)
    assert path == folder / "index.html"
    names = ["index.html", *(f"layer-{number}.html" for number, _ in enumerate(result.layers, start=1))]
    return [Page((folder / name).read_text(encoding="utf-8")) for name in names]


def test_every_neuron_and_its_top_images(tmp_path: Path) -> None:
    result = dissected()
    folder = tmp_path / "new" / "report"
    _, *layers = pages(result, folder)
    for layer, shown in zip(result.layers, layers, strict=True):
        ids = [attributes.get("id") for tag, attributes in shown.tags if tag == "li"]
        assert ids == [f"neuron-{label.neuron}" for label in result.labels(layer)]
        for label in result.labels(layer):
            assert label.concept in shown.text
        pictures = [attributes for tag, attributes in shown.tags if tag == "img"]
        assert pictures[0]["alt"] == result.top_images(layer, 0, 1)[0][0]
        for attributes in pictures:
            assert attributes["loading"] == "lazy"
            with Image.open(folder / attributes["src"]) as image:
                assert image.size == (6, 6)


def test_competitors_stand_together(tmp_path: Path) -> None:
    _, act, head = pages(dissected(), tmp_path)
    blocks = [attributes["aria-label"] for tag, attributes in act.tags if tag == "section"]
    assert blocks == ["Block 0", "Block 1"]
    assert [tag for tag, _ in head.tags].count("section") == 1


def test_figures_of_the_overview(tmp_path: Path) -> None:
    overview, *_ = pages(dissected(probe=images(1)), tmp_path)
    text = " ".join(overview.text.split())
    assert "7 neurons of 2 layers of ColourNetwork, named by 4 concepts" in text
    assert "act 4 2 50.0 % 50 % 1 2" in text.replace("act 425", "act 4 2 5").replace("%12", "% 1 2")


def test_an_explained_image_has_a_page(tmp_path: Path) -> None:
    result = dissected()
    key, image = images(30)[0]
    why = result.explain(image, class_names=["red", "green", "blue"], versus="blue", draws=2)
    result.to_report(tmp_path, explained=[Explained(key, image, why)])
    shown = Page((tmp_path / "image-1.html").read_text(encoding="utf-8"))
    text = " ".join(shown.text.split())
    assert "Why red rather than blue?" in text
    assert "averaged over 2 draws" in text
    links = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    for layer, file in zip(result.layers, ("layer-1.html", "layer-2.html"), strict=True):
        for one in why.evidence[layer]:
            assert (f"{file}#neuron-{one.neuron}" in links) == (one.contribution != 0)
            assert not one.contribution or f"{one.contribution:+.3f}" in text


def test_large_images_are_made_small(tmp_path: Path) -> None:
    _, shown, _ = pages(dissected(probe=images(3, size=400)), tmp_path)
    source = next(attributes["src"] for tag, attributes in shown.tags if tag == "img")
    with Image.open(tmp_path / source) as image:
        assert max(image.size) == 128


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    for shown in pages(dissected(), tmp_path):
        for _, attributes in shown.tags:
            for name in ("src", "href"):
                if name in attributes and not attributes[name].startswith("data:"):
                    assert (tmp_path / attributes[name].split("#")[0]).exists()
    for path in tmp_path.rglob("*.*s"):
        assert "http" not in path.read_text(encoding="utf-8")


def test_markup_in_names_is_only_text(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    keys = [f'../{evil}"{i}' for i in range(3)]
    clip = Embeddings(keys, torch.ones(3, 2), [evil], torch.ones(1, 2))
    probe = [(key, image) for key, (_, image) in zip(keys, images(3), strict=True)]
    result = dissected(probe=probe, clip=clip, concepts=[evil])
    for shown in pages(result, tmp_path)[1:]:
        assert [attributes for tag, attributes in shown.tags if tag == "script"] == [{"src": "atlas.js"}]
        assert evil in shown.text
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"00000.png", "00001.png", "00002.png"}


def test_a_stream_has_no_pictures_but_keys(tmp_path: Path) -> None:
    clip = embeddings([key for key, _ in images(6)])
    _, shown, _ = pages(dissected(probe=iter(images(6)), clip=clip), tmp_path)
    assert "img" not in {tag for tag, _ in shown.tags}
    assert "red/000.png" in shown.text


def test_dead_neurons_say_so(tmp_path: Path) -> None:
    _, shown, _ = pages(dissected(probe=images(1)), tmp_path)
    assert "of which 2 never answered" in " ".join(shown.text.split())
    assert shown.text.count("never won") == 2


def test_at_least_one_image() -> None:
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        dissected().to_report("nowhere", top=0)
