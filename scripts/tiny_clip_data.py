"""What the tiny CLIP is trained on: captioned images of handwritten digits and of generated shapes.

Every image comes with its *facts*, at most one concept of each kind (`{"digit": "eight", "loops": "two loops"}`), every
caption with the concepts it *says*. A caption is true of an image when all that it says is among the facts, so it is
known exactly which captions of a batch are true of which images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from tiny_clip_strokes import LOOP_WORDS, stroke_facts

Array = npt.NDArray[Any]
Facts = Mapping[str, str]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (250, 140, 20),
    "yellow": (240, 230, 40),
    "green": (40, 170, 50),
    "cyan": (50, 220, 220),
    "blue": (40, 70, 220),
    "purple": (130, 40, 170),
    "pink": (250, 130, 190),
}
"""RGB, 0…255; each shape's own colour is up to COLOUR_NOISE away from it."""
COLOUR_NOISE = 12

STAR_INNER = 0.45
"""Radius of the star's inner corners; the tips are at 1."""


def _star(x: Array, y: Array) -> Array:
    """Distance to the line through a tip and its inner corner: by symmetry, a tenth of the star stands for all."""
    half = np.pi / 5
    angle = np.abs(np.mod(np.arctan2(x, -y), 2 * half) - half)  # 0 at an inner corner, half at a tip
    radius = np.hypot(x, y)
    edge = np.array([np.cos(half) - STAR_INNER, np.sin(half)])
    out = (radius * np.cos(angle) - STAR_INNER) * edge[1] - radius * np.sin(angle) * edge[0]
    return out / np.linalg.norm(edge)


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 0.95, y - 0.32), np.maximum(x - 0.32, y - 0.95))


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.95,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.85,
    "triangle": lambda x, y: np.maximum(y, np.abs(x) * 0.866 - y * 0.5) - 0.55,
    "star": _star,
    "cross": _cross,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.73) - 0.22,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.95, 0.8 - np.hypot(x - 0.5, y)),
    "bar": lambda x, y: np.maximum(np.abs(x) - 0.95, np.abs(y) - 0.3),
}
"""Signed distance to the outline, negative inside; x to the right, y down, in units of the shape's radius."""

TEXTURES: dict[str, Callable[[Array, Array], Array]] = {
    "plain": lambda u, v: np.ones_like(u),
    "striped": lambda u, v: np.sin(u),
    "dotted": lambda u, v: 0.7 - np.cos(u) - np.cos(v),
    "checkered": lambda u, v: 2 * np.sin(u) * np.sin(v),
}
"""Positive where the shape has its colour and negative where it is dark; u and v in radians of the pattern's period."""

SIZES: dict[str, tuple[float, float]] = {"small": (0.5, 0.6), "large": (0.8, 0.95)}
"""Range of the radius, as a fraction of half the image."""

SIDES = (32, 48, 64)
"""Sides that shape images have, in pixels."""

CONCEPTS: dict[str, tuple[str, ...]] = {
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "stroke": ("thin", "thick"),
    "slant": ("slanted left", "upright", "slanted right"),
    "loops": LOOP_WORDS,
    "width": ("narrow", "wide"),
    "colour": tuple(COLOURS),
    "texture": tuple(TEXTURES),
    "size": tuple(SIZES),
    "shape": tuple(SHAPES),
}
"""The concepts of each kind. Those of one kind exclude each other."""

WORDS: tuple[str, ...] = tuple(word for words in CONCEPTS.values() for word in words)

UNKNOWN: tuple[str, ...] = ("zebra", "guitar", "river bank", "very old castle")
"""Captions, one to three words long, that are true of no image: they stand for all words outside the vocabulary."""


def digit_image(pixels: Array) -> Image.Image:
    """RGB image, white on black, of an (8, 8) digit of scikit-learn (0…16), as a user would hand it in."""
    return Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).convert("RGB")


class Example(NamedTuple):
    """An image and what is true of it."""

    image: Image.Image
    facts: dict[str, str]


def digit_examples(held_out: bool) -> list[Example]:
    """The digits of scikit-learn: the last fifth of every class, in the order of the data set, is held out."""
    digits = load_digits()
    examples = []
    for target in range(10):
        pixels = digits.images[digits.target == target]
        cut = round(0.8 * len(pixels))
        examples += [
            Example(image, {"digit": CONCEPTS["digit"][target], **stroke_facts(image)})
            for image in map(digit_image, pixels[cut:] if held_out else pixels[:cut])
        ]
    return examples


def _turned(x: Array, y: Array, degrees: float) -> tuple[Array, Array]:
    """The coordinates x and y along axes that are turned."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return x * cos + y * sin, y * cos - x * sin


def draw_shape(facts: Facts, rng: np.random.Generator) -> Image.Image:
    """RGB image of the shape that the facts name, on a grey ground; what they leave open is random."""
    side = int(rng.choice(SIDES))
    radius = rng.uniform(*SIZES[facts["size"]])
    centre = rng.uniform(radius - 1, 1 - radius, 2)
    axis = (np.arange(side) + 0.5) * (2 / side) - 1
    x, y = np.meshgrid(axis - centre[0], axis - centre[1])

    across, down = _turned(x, y, rng.uniform(-15, 15))
    distance = SHAPES[facts["shape"]](across / radius, down / radius) * radius
    inside = np.clip(0.5 - distance * side / 2, 0, 1)  # the outline is blurred over one pixel

    u, v = _turned(x, y, rng.choice([0, 45, 90, 135]))
    wave = 2 * np.pi / rng.uniform(0.3, 0.4)
    light = np.clip(0.5 + 2 * TEXTURES[facts["texture"]](u * wave, v * wave), 0.35, 1)

    colour = np.array(COLOURS[facts["colour"]]) + rng.uniform(-COLOUR_NOISE, COLOUR_NOISE, 3)
    ground = rng.uniform(0, 90)
    pixels = ground + inside[..., None] * (light[..., None] * colour - ground)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def shape_examples(count: int, rng: np.random.Generator) -> list[Example]:
    """Images of `count` shapes of random kind, colour, texture and size."""
    examples = []
    for _ in range(count):
        facts = {kind: str(rng.choice(CONCEPTS[kind])) for kind in ("size", "colour", "texture", "shape")}
        examples.append(Example(draw_shape(facts, rng), facts))
    return examples


class Caption(NamedTuple):
    """A text and the concepts that must all be true of an image for the text to be."""

    text: str
    says: frozenset[str]


FORMS: dict[str, tuple[str, ...]] = {
    "digit": ("{}", "{}", "digit {}", "the digit {}", "the number {}", "handwritten {}"),
    "stroke": ("{}", "{} digit", "{} stroke", "{} strokes"),
    "slant": ("{}", "digit {}"),
    "loops": ("{}", "digit with {}"),
    "width": ("{}", "{} digit"),
    "colour": ("{}", "{} shape", "{} thing"),
    "texture": ("{}", "{} shape", "{} texture", "{} pattern"),
    "size": ("{}", "{} shape"),
    "shape": ("{}", "{}", "{} shape"),
}
"""Ways to say a single concept of each kind."""

TEMPLATES = ("{}", "{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}", "an image of a {}")


def _phrase(facts: Facts, said: Sequence[str]) -> str:
    """Noun phrase that says the facts of the kinds `said`, such as "small red triangle" or "thin six with one loop"."""
    thing = "digit" if "digit" in facts else "shape"
    noun = facts[thing] if thing in said else thing
    before = [facts[kind] for kind in ("size", "stroke", "width", "colour", "texture") if kind in said]
    after = [facts["slant"]] if "slant" in said else []
    if "loops" in said:
        after.append(f"with {facts['loops']}")
    return " ".join([*before, noun, *after])


def caption(facts: Facts, rng: np.random.Generator) -> Caption:
    """Something true of an image: half the time a single one of its facts, otherwise several."""
    kinds = list(facts)
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, len(kinds) + 1))
    said = [str(kind) for kind in rng.choice(kinds, count, replace=False)]
    phrase = str(rng.choice(FORMS[said[0]])).format(facts[said[0]]) if count == 1 else _phrase(facts, said)
    return Caption(str(rng.choice(TEMPLATES)).format(phrase), frozenset(facts[kind] for kind in said))
