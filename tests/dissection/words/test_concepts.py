"""Sets of concepts and their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lwta.dissection import Concepts, Embeddings


def test_names_are_stripped_and_empty_ones_dropped() -> None:
    assert Concepts([" cat\t", "", "  ", "polar bear"]).names == ("cat", "polar bear")


def test_duplicates_are_counted_and_named() -> None:
    with pytest.warns(UserWarning, match="3 duplicate concepts of list removed: 'cat', 'dog'") as warned:
        concepts = Concepts(["cat", "dog", "cat ", "cow", "dog", "cat"])
    assert concepts.names == ("cat", "dog", "cow")
    assert len(warned) == 1


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffcat\r\n\n  café \ndog", encoding="utf-8")
    assert Concepts.of(path).names == Concepts.of(str(path)).names == ("cat", "café", "dog")
    assert Concepts.of(path).source == str(path)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n  \n")
    with pytest.raises(ValueError, match=r"at least one concept, but .*words\.txt is empty"):
        Concepts.from_file(path)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="must be a text file in UTF-8"):
        Concepts.from_file(path)
    with pytest.raises(FileNotFoundError):
        Concepts.of(tmp_path / "none.txt")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least one concept, but list is empty"):
        Concepts([])
    with pytest.raises(TypeError, match="names must be a sequence of strings, got one: 'cat'"):
        Concepts("cat")
    with pytest.raises(ValueError, match=r"templates must each have a {} for the concept, got"):
        Concepts(["cat"], templates=["a photo"])


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ([1, 2], r"concepts\[0\] must be a string, got int: 1"),
        (["a", None], r"concepts\[1\] must be a string, got NoneType: None"),
        ([b"a"], r"concepts\[0\] must be a string, got bytes"),
        (7, "concepts must be a sequence of strings, got int"),
    ],
)
def test_concepts_that_are_no_strings_are_named(concepts: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Concepts.of(concepts)
    with pytest.raises(TypeError, match=message.replace("concepts", "names")):
        Concepts(concepts)
    with pytest.raises(TypeError, match=message.replace("concepts", "templates")):
        Concepts(["a"], templates=concepts)


def test_built_in_sets() -> None:
    assert Concepts.of("imagenet").names[:2] == ("tench", "goldfish")
    assert len(Concepts.imagenet()) == 998
    lemmas = Concepts.imagenet21k()
    assert len(lemmas) > 20_000
    assert "golden retriever" in lemmas.names


def test_templates_average_normalised_embeddings() -> None:
    texts = ["a cat", "the cat", "a dog", "the dog"]
    features = torch.nn.functional.normalize(torch.randn(4, 3), dim=1)
    encoder = Embeddings(["image"], torch.ones(1, 3), texts, features)
    embedded = Concepts(["cat", "dog"], templates=["a {}", "the {}"]).encode(encoder)
    expected = torch.stack([features[:2].mean(0), features[2:].mean(0)])
    torch.testing.assert_close(embedded, torch.nn.functional.normalize(expected, dim=1))


class Recorder:
    """An encoder that writes down what it is asked to encode."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        return torch.ones(len(texts), 2)


def test_the_default_is_the_bare_word() -> None:
    recorder = Recorder()
    Concepts(["cat", "dog {}"]).encode(recorder)  # type: ignore[arg-type]
    assert recorder.texts == ["cat", "dog {}"]
