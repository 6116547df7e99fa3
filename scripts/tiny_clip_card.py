"""What the tiny CLIP can do, measured on images it was not trained on, and the model card that says so."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from tiny_clip_data import CONCEPTS, WORDS, Example, digit_examples, shape_examples
from torch import Tensor

HELD_OUT_SHAPES, HELD_OUT_SEED = 1000, 2**31
UNKNOWN_WORDS = ("ocean", "tractor", "jazz", "wooden chair", "elephant", "happy", "old stone bridge")
"""Never seen in training, unlike the unknown words of the data."""


class TinyClip(NamedTuple):
    """The model as it is used: open_clip's own classes, filled from the files."""

    model: open_clip.CLIP
    transform: Callable[[Image.Image], Tensor]
    tokenize: open_clip.SimpleTokenizer

    @classmethod
    def load(cls, folder: Path) -> TinyClip:
        """Read config.json and model.safetensors."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = open_clip.CLIP(**config["model_cfg"])
        open_clip.load_checkpoint(model, str(folder / "model.safetensors"))
        transform = image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False)
        context_length = config["model_cfg"]["text_cfg"]["context_length"]
        return cls(model.eval(), transform, open_clip.SimpleTokenizer(context_length=context_length))

    @torch.inference_mode()
    def cosines(self, examples: Sequence[Example], texts: Sequence[str]) -> Tensor:
        """(n, T): cosine of each example's image with each text."""
        images = torch.stack([self.transform(example.image) for example in examples])
        image_features = self.model.encode_image(images, normalize=True)
        return image_features @ self.model.encode_text(self.tokenize(list(texts)), normalize=True).T


class Skill(NamedTuple):
    """How well the model tells the concepts of one kind apart, on the held-out images of which one of them is true."""

    kind: str
    images: int
    accuracy: float
    """Fraction of the images where the true concept has the largest cosine among those of its kind."""
    first_of_all: float
    """Fraction where it has the largest cosine among all concepts."""
    matching: float
    """Mean cosine of the images with their true concept."""
    other: float
    """Mean cosine with the other concepts of the kind."""


def skill(kind: str, examples: Sequence[Example], cosines: Tensor) -> Skill:
    """Measure one kind.

    Args:
        kind: of `CONCEPTS`.
        examples: n images.
        cosines: (n, concepts) of the images with `WORDS`.
    """
    rows = [row for row, example in enumerate(examples) if kind in example.facts]
    first = WORDS.index(CONCEPTS[kind][0])
    among = cosines[rows, first : first + len(CONCEPTS[kind])]
    true = torch.tensor([CONCEPTS[kind].index(examples[row].facts[kind]) for row in rows])
    is_true = torch.nn.functional.one_hot(true, len(CONCEPTS[kind])).bool()
    return Skill(
        kind,
        len(rows),
        (among.argmax(1) == true).double().mean().item(),
        (cosines[rows].argmax(1) == true + first).double().mean().item(),
        among[is_true].mean().item(),
        among[~is_true].mean().item(),
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a table of markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


CARD = """\
# Tiny CLIP

A CLIP of open_clip's own classes, small enough to be shipped: {megabytes:.1f} MB, {parameters:,} parameters, more than
half of them the table of CLIP's {vocabulary:,} tokens. `ClipEncoder("tiny")` opens it. It lets dissection run with no
download. It knows handwritten digits and generated shapes and nothing else: it is a toy for offline use, for tests and
for the demo. For photographs use a real CLIP.

Files: `config.json` (the format of open_clip's `open_clip_config.json`), `model.safetensors` (float16, with how it was
trained in its metadata), `concepts.txt` (the {concepts} concepts it knows). This card is written by the training
script; no figure in it is typed by hand.

## Data

- The handwritten digits of scikit-learn (`load_digits`, 8x8 pixels, white on black), which are part of the "Optical
  Recognition of Handwritten Digits" of the UCI repository (E. Alpaydin and C. Kaynak, CC BY 4.0). The last fifth of
  every class, in the order of the data set, is held out and was never trained on.
- Generated shapes, each of a kind, colour, texture and size listed below; position, angle, background and the
  pattern's direction and period are random.
- Captions name single facts as bare words, several facts together ("small red striped triangle", "thin six with one
  loop"), and both in templates such as "a photo of a ...".
- What is said of a digit's strokes is measured on its image, not annotated: width of the strokes, slant, enclosed
  loops, height over width. A loop that the pen left open is no loop, so many an eight has fewer than two. The
  thresholds are at the top of `scripts/tiny_clip_strokes.py`.

## Concepts

{concept_table}

## Training

{training_table}

A sigmoid loss over all pairs of images and captions of a batch, where every caption that is true of an image is a
positive. What a thing is called has a larger margin than what can be said of it, so that an eight is an "eight" before
it is "two loops".

## Measured on held-out images

Zero-shot, with the bare words: the concept with the largest cosine among those of its kind, and among all {concepts}.
{digits} digits and {held_out_shapes} shapes; for each kind, the images of which one of its concepts is true. Among all
concepts, the name of the digit or shape comes first by design, which leaves next to nothing for the other kinds.
The architecture, the margins and the logit scale were chosen with an eye on these held-out digits.

{skill_table}

## Words it does not know

All tokens that are in no training caption share one embedding, which was trained to match no image: such a concept is
never near, and all such concepts are the same to the model. Over the held-out images, the cosine with

    {unknown_words}

is {unknown_mean:.2f} on average and at most {unknown_largest:.2f}. A phrase with a known word in it ("seven dwarfs")
can still match by that word, and words that occur only in templates ("photo", "number") mean nothing by themselves.

## Rebuild

    python scripts/train_tiny_clip.py --out dissection/words/tiny
    python scripts/tiny_clip_card.py dissection/words/tiny  # measures again and rewrites this card only
"""


def training_of(folder: Path) -> dict[str, str]:
    """How the model was trained, name and value: the metadata of its weights."""
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return json.loads(weights.metadata()["training"])


def write_card(folder: Path) -> str:
    """Measure the model in the folder, from config.json and model.safetensors, and write MODEL_CARD.md next to it.

    Returns:
        The table of what was measured.
    """
    clip = TinyClip.load(folder)
    digits = digit_examples(held_out=True)
    shapes = shape_examples(HELD_OUT_SHAPES, np.random.default_rng(HELD_OUT_SEED))
    examples = digits + shapes
    cosines, unknown = clip.cosines(examples, WORDS), clip.cosines(examples, UNKNOWN_WORDS)
    skills = [skill(kind, examples, cosines) for kind in CONCEPTS]
    skill_table = markdown_table(
        ("kind", "images", "right of its kind", "right of all", "cosine if true", "cosine of the others"),
        (
            (s.kind, str(s.images), f"{s.accuracy:.1%}", f"{s.first_of_all:.1%}", f"{s.matching:.2f}", f"{s.other:.2f}")
            for s in skills
        ),
    )
    card = CARD.format(
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        parameters=sum(parameter.numel() for parameter in clip.model.parameters()),
        vocabulary=clip.model.vocab_size,
        concepts=len(WORDS),
        concept_table=markdown_table(("kind", "concepts"), ((k, ", ".join(words)) for k, words in CONCEPTS.items())),
        training_table=markdown_table(("", ""), training_of(folder).items()),
        digits=len(digits),
        held_out_shapes=len(shapes),
        skill_table=skill_table,
        unknown_words=", ".join(UNKNOWN_WORDS),
        unknown_mean=unknown.mean().item(),
        unknown_largest=unknown.max().item(),
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return skill_table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure a tiny CLIP again and rewrite its card.")
    parser.add_argument("folder", type=Path, help="with config.json and model.safetensors")
    print(write_card(parser.parse_args().folder))
