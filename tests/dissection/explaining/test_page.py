"""An explanation as one page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from lwta.dissection import Embeddings
from tests.support.pages import EVIL, Page
from tests.support.worlds import ColourNetwork, dissected, images


def test_an_explanation_is_one_file(tmp_path: Path) -> None:
    model = ColourNetwork()
    model.mean = nn.Identity()  # type: ignore[assignment]
    model.flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # type: ignore[assignment]
    keys = [key for key, _ in images(3)]
    clip = Embeddings(keys, torch.eye(3), [EVIL, "b"], torch.eye(3)[:2])
    result = dissected(model, ["act"], probe=images(3), clip=clip, concepts=[EVIL, "b"])
    explanation = result.explain(images(2)[1][1], class_names=[EVIL, "b", "c"])
    explanation.to_html(tmp_path / "why.html", title=EVIL)
    assert [path.name for path in tmp_path.iterdir()] == ["why.html"]
    html = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert "http" not in html
    page = Page(html)
    assert not page.all("script") + page.all("a") + page.all("link")[1:]
    assert EVIL in page.text
    pictures = [str(picture["src"]) for picture in page.all("img")]
    assert len(pictures) == 1 + sum(one.contribution != 0 for one in explanation.evidence["act"])
    sizes = []
    for picture in pictures:
        kind, _, data = picture.partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert kind == f"data:image/{str(image.format).lower()}"
            sizes.append(image.size)
    assert sizes == [(6, 6)] + [(160, 160)] * (len(sizes) - 1)
    for one in explanation.evidence["act"]:
        assert one.contribution == 0 or f"{one.contribution:+.3f}" in page.text
    explanation.to_html(tmp_path / "why.html", image=Image.new("RGB", (40, 20)))
    first = Page((tmp_path / "why.html").read_text(encoding="utf-8")).all("img")[0]
    assert (first["width"], first["height"]) == ("40", "20")


def test_a_neuron_that_no_word_fits_shows_the_closest_and_why(tmp_path: Path) -> None:
    result = dissected()
    explanation = result.explain(images(3)[2][1])
    evidence = next(one for one in explanation.evidence["act"] if one.concept is None and one.closest is not None)
    assert evidence.reason == result.labels("act")[evidence.neuron].reason
    told = f"no word fits (closest: {evidence.closest}"
    assert told in str(explanation)
    row = next(one for one in explanation.to_dict()["evidence"]["act"] if one["neuron"] == evidence.neuron)
    assert (row["concept"], row["closest"], row["reason"]) == (None, evidence.closest, evidence.reason)
    explanation.to_html(tmp_path / "why.html")
    page = Page((tmp_path / "why.html").read_text(encoding="utf-8"))
    assert told in page.text
    assert evidence.reason in {tag.get("title") for tag in page.all("span")}
