"""What encoders return is looked at before anything is stored or scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lwta.dissection import SIMILARITIES, ClipEncoder, Concepts, Dissection, dissect, open_store
from lwta.dissection.recording import one_pass
from lwta.dissection.words.encoder import checked_embeddings
from tests.support.kernel_cases import label
from tests.support.worlds import ColourNetwork, embeddings, images, to_tensor

PROBE = images(24)
KEYS = [key for key, _ in PROBE]
NAN, INF = float("nan"), float("inf")
Change = Callable[[Tensor], Any]


class Clip:
    """An encoder of one's own, whose embedding of one image, or of one concept, is another."""

    name = fingerprint = "own"
    preprocess = None

    def __init__(self, image: Change | None = None, concept: Change | None = None) -> None:
        self._inner = embeddings(KEYS)
        self._image, self._concept = image, concept

    def check_keys(self, keys: Sequence[str]) -> None: ...

    def to(self, device: torch.device) -> None: ...

    def encode_images(self, keys: Sequence[str], pixels: Tensor | None) -> Tensor:
        found = self._inner.encode_images(keys, pixels)
        if self._image is None or KEYS[7] not in keys:
            return found
        return _changed(found, keys.index(KEYS[7]), self._image)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        found = self._inner.encode_texts(texts)
        return found if self._concept is None else _changed(found, 1, self._concept)


def _changed(rows: Tensor, row: int, change: Change) -> Tensor:
    return torch.stack([change(one.clone()) if i == row else one for i, one in enumerate(rows)])


def value(number: float) -> Change:
    """Puts the number into an embedding."""
    return lambda row: row.index_fill(0, torch.tensor([2]), number)


def dissected(clip: Any, **changes: Any) -> Dissection:
    keywords = {"concepts": embeddings(KEYS).concepts, "transform": to_tensor, "batch_size": 5, "progress": False}
    keywords["similarity"] = "correlation"
    return dissect(ColourNetwork(), ["act", "head"], PROBE, clip=clip, **{**keywords, **changes})


@pytest.fixture(scope="module")
def labelled() -> Dissection:
    """A dissection of which nothing is wrong."""
    return dissected(Clip())


@pytest.mark.parametrize(("similarity", "number"), list(zip(SIMILARITIES, cycle([NAN, INF, -INF]))))
def test_an_embedding_that_is_not_finite_is_refused_by_name(
    similarity: str, number: float, labelled: Dissection, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"clip gave a value that is not finite for image '{KEYS[7]}'$"):
        dissected(Clip(image=value(number)), similarity=similarity, store=tmp_path)
    assert not list(tmp_path.glob("**/00001*"))  # the shard of that image
    with pytest.raises(ValueError, match=r"clip gave a value that is not finite for concept 'a green thing'$"):
        dissected(Clip(concept=value(number)), similarity=similarity)
    with pytest.raises(ValueError, match=r"concept 'a green thing'$"):
        replace(labelled, clip=Clip(concept=value(number))).relabel(similarity=similarity)


def test_an_overflowing_clip_is_refused_by_name() -> None:
    clip = ClipEncoder()
    for part, message in (
        (clip._model.visual, "clip gave a value that is not finite for image 'red/000.png' and 4 others$"),
        (clip._model.transformer, "clip gave a value that is not finite for concept 'circle' and 1 others$"),
    ):
        for parameter in part.parameters():
            parameter.mul_(1e30)
        with pytest.raises(ValueError, match=message):
            dissected(clip, concepts=["circle", "square"])


def test_directions_are_all_that_counts(labelled: Dissection) -> None:
    """An encoder that does not normalise, or whose numbers have another type, labels as one that does."""
    for change in (lambda row: row * 7, lambda row: row * 1e-30, lambda row: row * 3e38):
        for clip in (Clip(image=change), Clip(concept=change)):
            assert torch.equal(dissected(clip).similarities("head"), labelled.similarities("head"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=label)
def test_embeddings_of_any_type_become_rows_of_length_one_in_float32(dtype: torch.dtype) -> None:
    found = checked_embeddings(torch.randn(9, 5).to(dtype), "image", "abcdefghi")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(9))


def test_normalised_embeddings_stay_as_they_are() -> None:
    rows = torch.nn.functional.normalize(torch.randn(50, 768), dim=1)
    found = checked_embeddings(torch.cat([rows, torch.ones(1, 768)]), "image", [str(i) for i in range(51)])
    assert torch.equal(found[:50], rows)
    assert found[50].norm().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.tensor([[0.0, 1.0], [0.0, 0.0]]), ValueError, "the zero vector, which has no direction, for image 'b'"),
        (torch.ones(3, 2), ValueError, r"clip must return shape \(2, d\) for 2 images, got \(3, 2\)"),
        (torch.ones(2), ValueError, r"clip must return shape \(2, d\) for 2 images, got \(2,\)"),
        (torch.ones(2, 2).long(), TypeError, "tensor of floating-point numbers for images, got torch.int64"),
        (torch.ones(2, 2).cfloat(), TypeError, "got torch.complex64"),
        (np.ones((2, 2)), TypeError, "got ndarray"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_no_embedding_is_refused(returned: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checked_embeddings(returned, "image", ["a", "b"])


def test_prompts_that_cancel_out_are_refused() -> None:
    class Opposite(Clip):
        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            return torch.eye(4)[: len(texts)] * (-1 if texts[0].startswith("no ") else 1)

    with pytest.raises(ValueError, match="the zero vector, which has no direction, for concept 'cat' and 1 others"):
        Concepts(["cat", "dog"], templates=["{}", "no {}"]).encode(Opposite())


def test_images_and_concepts_of_other_lengths_are_refused() -> None:
    class Short(Clip):
        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            return torch.eye(3)[torch.arange(len(texts)) % 3]

    with pytest.raises(ValueError, match="got 4 numbers for each image and 3 for each concept"):
        dissected(Short())


@pytest.fixture(scope="module")
def unchecked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a version that did not look at embeddings, with a NaN in one."""
    store = tmp_path_factory.mktemp("unchecked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "checked_embeddings", lambda features, kind, owners: features)
        with pytest.raises(ValueError, match="recorded embeddings must be finite"):
            dissected(Clip(image=value(NAN)), store=store, shard_images=5)
    return store


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_stored_embeddings_that_are_not_finite_are_refused_by_name(unchecked: Path, similarity: str) -> None:
    message = f"recorded embeddings must be finite, those of 1 images are not: '{KEYS[7]}'; see to the encoder"
    with pytest.raises(ValueError, match=message):
        open_store(unchecked, clip=Clip(), concepts=["a red thing", "a blue thing"], similarity=similarity)
    with pytest.raises(ValueError, match=message):
        dissected(Clip(), store=unchecked, shard_images=5, similarity=similarity)
