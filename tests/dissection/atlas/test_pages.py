"""The HTML page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import torch
from fakes import embeddings, images
from PIL import Image
from test_dissect import dissected

from lwta.dissection import Dissection, Embeddings


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


def page(result: Dissection, folder: Path) -> Page:
    path = result.to_report(folder)
    assert path == folder / "index.html"
    return Page(path.read_text(encoding="utf-8"))


def test_every_neuron_and_its_top_images(tmp_path: Path) -> None:
    result = dissected()
    shown = page(result, tmp_path / "new" / "report")
    assert sum(attributes.get("class", "").startswith("neuron") for tag, attributes in shown.tags if tag == "li") == 7
    for layer in result.layers:
        for label in result.labels(layer):
            assert label.concept in shown.text
    pictures = [attributes for tag, attributes in shown.tags if tag == "img"]
    assert pictures[0]["alt"] == result.top_images("act", 0, 1)[0][0]
    for attributes in pictures:
        with Image.open(tmp_path / "new" / "report" / attributes["src"]) as image:
            assert image.size == (6, 6)


def test_large_images_are_made_small(tmp_path: Path) -> None:
    result = dissected(probe=images(3, size=400))
    shown = page(result, tmp_path)
    source = next(attributes["src"] for tag, attributes in shown.tags if tag == "img")
    with Image.open(tmp_path / source) as image:
        assert max(image.size) == 128


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    text = dissected().to_report(tmp_path).read_text(encoding="utf-8")
    assert "http" not in text
    assert "<script" not in text


def test_markup_in_names_is_only_text(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    keys = [f'../{evil}"{i}' for i in range(3)]
    clip = Embeddings(keys, torch.ones(3, 2), [evil], torch.ones(1, 2))
    probe = [(key, image) for key, (_, image) in zip(keys, images(3), strict=True)]
    result = dissected(probe=probe, clip=clip, concepts=[evil])
    shown = page(result, tmp_path)
    assert "script" not in {tag for tag, _ in shown.tags}
    assert evil in shown.text
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"00000.png", "00001.png", "00002.png"}


def test_a_stream_has_no_pictures_but_keys(tmp_path: Path) -> None:
    clip = embeddings([key for key, _ in images(6)])
    shown = page(dissected(probe=iter(images(6)), clip=clip), tmp_path)
    assert "img" not in {tag for tag, _ in shown.tags}
    assert "red/000.png" in shown.text


def test_dead_neurons_say_so(tmp_path: Path) -> None:
    shown = page(dissected(probe=images(1)), tmp_path)
    assert "of which 2 never answered" in " ".join(shown.text.split())
    assert shown.text.count("no label") == 2
