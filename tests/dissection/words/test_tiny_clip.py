"""The tiny CLIP that is shipped: opened by open_clip alone, it can do what its card says."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import lwta.dissection.words
from tests.support.places import ROOT

TINY = Path(lwta.dissection.words.__file__).parent / "tiny"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def scripts() -> Iterator[pytest.MonkeyPatch]:
    """The scripts can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield patch


@pytest.fixture(scope="module")
def data(scripts: pytest.MonkeyPatch) -> ModuleType:
    return importlib.import_module("tiny_clip_data")


@pytest.fixture(scope="module")
def strokes(scripts: pytest.MonkeyPatch) -> ModuleType:
    return importlib.import_module("tiny_clip_strokes")


class Clip:
    """The artefacts through open_clip only."""

    def __init__(self) -> None:
        config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
        self.model = open_clip.CLIP(**config["model_cfg"]).eval()
        open_clip.load_checkpoint(self.model, str(TINY / "model.safetensors"))
        self.transform = image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False)
        self.tokenize = open_clip.SimpleTokenizer(context_length=self.model.context_length)

    @torch.inference_mode()
    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        image_features = self.model.encode_image(torch.stack([self.transform(i) for i in images]), normalize=True)
        return image_features @ self.model.encode_text(self.tokenize(list(texts)), normalize=True).T


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip()


@pytest.fixture(scope="module")
def concepts() -> list[str]:
    return (TINY / "concepts.txt").read_text(encoding="utf-8").splitlines()


def accuracy(clip: Clip, data: ModuleType, examples: Sequence, kind: str, texts: Sequence[str] | None = None) -> float:
    """Fraction of the images whose nearest text, by default among the concepts of the kind, is the true one."""
    texts = texts or data.CONCEPTS[kind]
    nearest = clip.cosines([example.image for example in examples], texts).argmax(1)
    return float(np.mean([texts[i] == example.facts[kind] for i, example in zip(nearest, examples, strict=True)]))


def test_weights_are_small() -> None:
    assert (TINY / "model.safetensors").stat().st_size <= 8_000_000


def test_concepts_are_those_of_the_training_and_begin_with_the_digits(data: ModuleType, concepts: list[str]) -> None:
    assert concepts == list(data.WORDS)
    assert concepts[:10] == list(DIGITS)
    assert len(set(concepts)) == len(concepts)


def test_held_out_digits_as_the_card_says(clip: Clip, data: ModuleType, concepts: list[str]) -> None:
    examples = data.digit_examples(held_out=True)
    card = (TINY / "MODEL_CARD.md").read_text(encoding="utf-8")
    row = re.search(r"^\| digit \| (\d+) \| ([\d.]+)% \| ([\d.]+)% \|", card, flags=re.MULTILINE)
    assert row
    assert int(row[1]) == len(examples) == 359
    measured = accuracy(clip, data, examples, "digit")
    one_image = 100 / len(examples)  # another machine may round differently
    assert measured >= 0.9
    assert 100 * measured == pytest.approx(float(row[2]), abs=one_image)
    among_all = accuracy(clip, data, examples, "digit", concepts)
    assert among_all >= 0.9
    assert 100 * among_all == pytest.approx(float(row[3]), abs=one_image)


@pytest.mark.parametrize(("kind", "least"), [("shape", 0.8), ("colour", 0.95), ("texture", 0.8), ("size", 0.95)])
def test_new_shapes(clip: Clip, data: ModuleType, kind: str, least: float) -> None:
    examples = data.shape_examples(200, np.random.default_rng(123))
    assert accuracy(clip, data, examples, kind) >= least


def test_unknown_words_match_nothing(clip: Clip, data: ModuleType) -> None:
    images = [example.image for example in data.digit_examples(held_out=True)]
    assert clip.cosines(images, ["submarine", "violin", "cold tea"]).max() < 0.2


@pytest.mark.parametrize(("character", "expected"), [("8", 2), ("0", 1), ("1", 0)])
def test_loops_of_clean_digits(strokes: ModuleType, character: str, expected: int) -> None:
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((10, 0), character, fill=255, font=ImageFont.load_default(size=40))
    assert strokes.loops(np.asarray(image) / 255.0) == expected


def _bar(width: int, shear: float = 0.0) -> np.ndarray:
    """(64, 64) ink: a vertical bar, sheared to the right."""
    y, x = np.mgrid[:64, :64]
    inside = np.abs(x - 32 - shear * (32 - y)) <= width / 2
    return (inside & (np.abs(y - 32) < 24)).astype(float)


def test_measures_of_a_bar(strokes: ModuleType) -> None:
    assert strokes.stroke_width(_bar(4)) < strokes.stroke_width(_bar(8))
    assert strokes.elongation(_bar(4)) > strokes.elongation(_bar(8)) > 1
    assert strokes.slant(_bar(4)) == pytest.approx(0, abs=1)
    assert strokes.slant(_bar(4, shear=0.5)) == pytest.approx(np.degrees(np.arctan(0.5)), abs=2)
    assert strokes.slant(_bar(4, shear=-0.5)) == pytest.approx(-np.degrees(np.arctan(0.5)), abs=2)


def test_examples_and_captions_are_reproducible(data: ModuleType) -> None:
    def once() -> tuple[list[bytes], list]:
        rng = np.random.default_rng(7)
        examples = data.shape_examples(20, rng)
        return [e.image.tobytes() for e in examples], [data.caption(e.facts, rng) for e in examples]

    assert once() == once()


def test_captions_say_only_what_is_true(data: ModuleType) -> None:
    rng = np.random.default_rng(0)
    facts = {"digit": "six", "loops": "one loop", "stroke": "thin", "slant": "slanted left"}
    captions = [data.caption(facts, rng) for _ in range(2000)]
    assert all(said.says <= set(facts.values()) for said in captions)
    assert all(word in said.text for said in captions for word in said.says)
    assert set(facts.values()) <= {said.text for said in captions}, "every fact is said as a bare word, too"
