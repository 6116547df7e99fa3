"""Concepts: the words by which neurons may be named."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lwta.dissection.words.encoder import Encoder, checked_embeddings
from lwta.support.text import printable, read_lines, some

TINY = Path(__file__).parent / "tiny" / "concepts.txt"


@dataclass(frozen=True)
class Concepts:
    """Concepts: words or phrases by which neurons may be named, each once.

    Blanks around a name are removed, and empty names are dropped. If a name occurs more than once, the first is kept
    and a warning counts the others.

    Args:
        names: words or phrases.
        source: origin of the names, for messages and the report.
        templates: prompts with a ``{}`` for the concept. The default is the bare word, which is the published method;
            with several, a concept's embedding is the normalised mean of the normalised embeddings of its prompts.

    Raises:
        TypeError: ``names`` is a string, or holds something else than strings.
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
            object.__setattr__(self, argument, _strings(argument, getattr(self, argument)))
        counts = Counter(stripped for name in self.names if (stripped := name.strip()))
        if not counts:
            raise ValueError(f"names must hold at least one concept, but {printable(self.source)} is empty")
        if not self.templates or any("{}" not in template for template in self.templates):
            raise ValueError(f"templates must each have a {{}} for the concept, got {list(self.templates)}")
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated:
            source, removed = printable(self.source), counts.total() - len(counts)
            warnings.warn(f"{removed} duplicate concepts of {source} removed: {some(repeated)}", stacklevel=3)
        object.__setattr__(self, "names", tuple(counts))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_file(cls, path: str | Path, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """Read concepts from a text file in UTF-8, one a line.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no concept, or is not UTF-8 text; or a template has no ``{}``.
        """
        return cls(read_lines(path), str(path), templates)

    @classmethod
    def imagenet(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """Return the 998 different class names of ImageNet-1k, as open_clip words them."""
        from open_clip import IMAGENET_CLASSNAMES

        return cls(list(dict.fromkeys(IMAGENET_CLASSNAMES)), "ImageNet class names", templates)

    @classmethod
    def imagenet21k(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """Return the first lemma of every synset of ImageNet-21k, about 20,000 different ones, as timm has them."""
        from timm.data import ImageNetInfo

        lemmas = (names.split(",")[0] for names in ImageNetInfo("imagenet21k").label_descriptions())
        return cls(list(dict.fromkeys(lemmas)), "ImageNet-21k lemmas", templates)

    @classmethod
    def tiny(cls, *, templates: Sequence[str] = ("{}",)) -> Concepts:
        """Return the vocabulary of the tiny CLIP of this library: digits, strokes, shapes, colours and textures."""
        return cls(read_lines(TINY), "tiny concepts", templates)

    @classmethod
    def of(cls, concepts: Concepts | Sequence[str] | str | Path) -> Concepts:
        """Return the concepts that the ``concepts`` argument of `dissect` stands for.

        Args:
            concepts: `Concepts`, a list of names, one of "imagenet", "imagenet21k" and "tiny", or a text file.

        Raises:
            TypeError: ``concepts`` is none of these, or a list that holds something else than strings.
            FileNotFoundError: there is no such file.
            ValueError: the list or the file holds no concept, or the file is not UTF-8 text.
        """
        if isinstance(concepts, Concepts):
            return concepts
        if isinstance(concepts, str) and concepts in ("imagenet", "imagenet21k", "tiny"):
            built_in: Concepts = getattr(cls, concepts)()
            return built_in
        if isinstance(concepts, str | Path):
            return cls.from_file(concepts)
        return cls(_strings("concepts", concepts))

    def encode(self, encoder: Encoder) -> Tensor:
        """Return the embeddings of the M concepts, (M, d) float32, normalised, on the CPU.

        Raises:
            TypeError: the encoder returned no tensor of floating-point numbers.
            ValueError: the encoder has no words, or no embedding, for some of the concepts, or its embeddings are of
                another shape, not finite or zero; the concepts are named.
        """
        prompts = [[template.replace("{}", name) for name in self.names] for template in self.templates]
        encoded = [checked_embeddings(encoder.encode_texts(texts), "concept", self.names) for texts in prompts]
        mean = torch.stack(encoded).mean(0)
        checked_embeddings(mean, "concept", self.names)  # those of several prompts may cancel out
        return torch.nn.functional.normalize(mean, dim=-1)


def _strings(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names as a tuple, having checked that each is a string.

    Raises:
        TypeError: ``names`` is a single string, cannot be iterated over, or holds something else than strings.
    """
    if isinstance(names, str):
        raise TypeError(f"{argument} must be a sequence of strings, got one: {names!r}")
    if not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be a sequence of strings, got {type(names).__name__}")
    names = tuple(names)
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"{argument}[{place}] must be a string, got {type(name).__name__}: {name!r}")
    return names
