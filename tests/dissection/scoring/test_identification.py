"""Output neurons whose classes are known."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lwta.dissection.scoring.identification import identify
from tests.support.worlds import dissected

NAMES = ["A_Red thing", "blue", "a  green-thing"]


def test_identification_of_output_neurons() -> None:
    found = identify(dissected(), "head", NAMES)
    # the labels are red, green, blue
    assert (found.neurons, found.nameable, found.top1, found.top5) == (3, 2, pytest.approx(1 / 3), pytest.approx(2 / 3))
    # of "blue" there is no embedding; the cosines are 1 and, of blue and green, 0
    assert (found.pairs, found.clip_cosine) == (2, pytest.approx(0.5))
    assert math.isnan(found.mpnet_cosine)


def test_sentence_transformers_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Model:
        def __init__(self, name: str) -> None:
            opened.append(name)

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[3.0, 4.0] if "red" in text.lower() else [2.0, 0.0] for text in texts], dtype=np.float32)

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Model))
    names = ["a red thing", "a red thing", "sky"]
    assert identify(dissected(), "head", names).mpnet_cosine == pytest.approx((1 + 0.6 + 1) / 3)
    assert opened == ["sentence-transformers/all-mpnet-base-v2"]


def test_missing_weights_of_sentence_transformers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=fails))
    with pytest.warns(UserWarning, match="no network"):
        assert math.isnan(identify(dissected(), "head", NAMES).mpnet_cosine)


def test_the_output_layer_is_found() -> None:
    result = dissected()
    found = result.scores(NAMES).identification
    assert found is not None
    assert found.layer == "head"
    assert result.scores().identification is None
    assert result.scores(["a", "b"]).identification is None  # no layer of two
