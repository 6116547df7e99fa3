"""Concepts: the words by which neurons may be named."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lwta.dissection.words.encoder import Encoder
from lwta.support.text import read_lines, some

TINY = Path(__file__).parent / "tiny" / "concepts.txt"


@dataclass(frozen=True)
class Concepts:
    """Words or phrases, each once.

    Blanks around a name are removed, empty names dropped; of names that occur more than once the first is kept and a
    warning says how many went.

    Args:
        names: words or phrases.
        source: where they come from, for messages and the report.
        templates: prompts with a ``{}`` for the concept. The default is the bare word, which is the published method;
            with several, a concept's embedding is the normalised mean of the normalised embeddings of its prompts.

    Raises:
        TypeError: ``names`` is a string.
        ValueError: no name is left, or a template has no ``{}``.

    Example:
        >>> Concepts(["cat", " dog "]).names
        ('cat', 'dog')
    """

    names: Sequence[str]
    source: str = "list"
    templates: Sequence[str] = ("{}",)

    def __post_init__(self) -> None:
        for argument in ("names", "templates"):
            if isinstance(getattr(self, argument), str):
                raise TypeError(f"{argument} must be a sequence of strings, got one: {getattr(self, argument)!r}")
        counts = Counter(stripped for name in self.names if (stripped := name.strip()))
        if not counts:
            raise ValueError(f"names must hold at least one concept, but {self.source} is empty")
        if not self.templates or any("{}" not in template for template in self.templates):
            raise ValueError(f"templates must each have a {{}} for the concept, got {list(self.templates)}")
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated:
            warnings.warn(
                f"{counts.total() - len(counts)} duplicate concepts of {self.source} removed: {some(repeated)}",
                stacklevel=3,
            )
        object.__setattr__(self, "names", tuple(counts))
        object.__setattr__(self, "templates", tuple(self.templates))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_file(cls, path: str | Path, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """Concepts of a text file in UTF-8, one a line.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no concept, or is not UTF-8 text.
        """
        return cls(read_lines(path), str(path), templates)

    @classmethod
    def imagenet(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """The 998 different class names of ImageNet-1k, as open_clip words them."""
        from open_clip import IMAGENET_CLASSNAMES

        return cls(list(dict.fromkeys(IMAGENET_CLASSNAMES)), "ImageNet class names", templates)

    @classmethod
    def imagenet21k(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """The first lemma of every synset of ImageNet-21k, about 20,000 different ones, as timm has them."""
        from timm.data import ImageNetInfo

        lemmas = (names.split(",")[0] for names in ImageNetInfo("imagenet21k").label_descriptions())
        return cls(list(dict.fromkeys(lemmas)), "ImageNet-21k lemmas", templates)

    @classmethod
    def tiny(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """The vocabulary of the embedded tiny CLIP: digits, strokes, shapes, colours and textures."""
        return cls(read_lines(TINY), "tiny concepts", templates)

    @classmethod
    def of(cls, concepts: Concepts | Sequence[str] | str | Path) -> Concepts:
        """What the ``concepts`` argument of `dissect` may be: `Concepts`, a list of names, one of "imagenet",
        "imagenet21k" and "tiny", or a text file.
        """
        if isinstance(concepts, Concepts):
            return concepts
        if isinstance(concepts, str) and concepts in ("imagenet", "imagenet21k", "tiny"):
            built_in: Concepts = getattr(cls, concepts)()
            return built_in
        if isinstance(concepts, str | Path):
            return cls.from_file(concepts)
        return cls(concepts)

    def encode(self, encoder: Encoder) -> Tensor:
        """Embed every concept.

        Returns:
            (M, d) float32, normalised, on the CPU.

        Raises:
            ValueError: the encoder has no words, or no embedding, for some of the concepts; they are named.
        """
        prompts = [[template.replace("{}", name) for name in self.names] for template in self.templates]
        embeddings = torch.stack([encoder.encode_texts(texts) for texts in prompts])
        return torch.nn.functional.normalize(embeddings.mean(0), dim=-1)
