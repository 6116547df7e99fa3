"""Precomputed embeddings in the place of CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lwta.dissection import ClipEncoder, Embeddings

KEYS, TEXTS = ["a/1.png", "a/2.png", "b/1.png"], ["cat", "dog"]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image_paths": np.array(KEYS),
        "image_features": rng.normal(size=(3, 4)).astype(np.float16),
        "concepts": np.array(TEXTS),
        "text_features": rng.normal(size=(2, 4)).astype(np.float16),
    }


def test_features_are_looked_up_and_normalised(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", **arrays)
    for encoder in (ClipEncoder.from_embeddings(tmp_path / "clip.npz"), ClipEncoder.from_embeddings(arrays)):
        expected = torch.nn.functional.normalize(torch.tensor(arrays["image_features"]).float(), dim=1)
        assert torch.equal(encoder.encode_images(["b/1.png", "a/1.png"], None), expected[[2, 0]])
        expected = torch.nn.functional.normalize(torch.tensor(arrays["text_features"]).float(), dim=1)
        assert torch.equal(encoder.encode_texts(["dog"]), expected[[1]])
        assert encoder.concepts == ("cat", "dog")


def test_fingerprint_follows_the_content(arrays: dict[str, np.ndarray]) -> None:
    before = Embeddings.load(arrays).fingerprint
    assert Embeddings.load(arrays).fingerprint == before
    arrays["text_features"][0, 0] += 1
    assert Embeddings.load(arrays).fingerprint == before  # what a store holds does not depend on texts
    arrays["image_features"][0, 0] += 1
    assert Embeddings.load(arrays).fingerprint != before


def test_missing_keys_and_texts_are_counted_and_named(arrays: dict[str, np.ndarray]) -> None:
    encoder = Embeddings.load(arrays)
    message = "2 of 3 keys of the probe have no image embedding: 'x.png', 'y.png'; the embeddings' keys look like 'a/1"
    with pytest.raises(ValueError, match=message):
        encoder.check_keys(["x.png", "a/1.png", "y.png"])
    with pytest.raises(ValueError, match="1 of 2 concepts have no text embedding: 'cow'"):
        encoder.encode_texts(["cat", "cow"])


def test_bad_arrays(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="'concepts' missing"):
        Embeddings.load({name: array for name, array in arrays.items() if name != "concepts"})
    features = torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"image_features must have shape \(2, d\), got \(3, 4\)"):
        Embeddings(KEYS[:2], features, TEXTS, features[:2])
    with pytest.raises(ValueError, match="as many columns"):
        Embeddings(KEYS, features, TEXTS, features[:2, :3])
    with pytest.raises(ValueError, match="keys must each occur once; 1 repeated: 'a'"):
        Embeddings(["a", "a", "b"], features, TEXTS, features[:2])
    features[0, 0] = torch.nan
    with pytest.raises(ValueError, match="image_features must be finite"):
        Embeddings(KEYS, features, TEXTS, torch.ones(2, 4))


def test_values_that_are_not_finite_are_named(arrays: dict[str, np.ndarray]) -> None:
    arrays["text_features"][1, 2] = np.inf
    with pytest.raises(ValueError, match="text_features must be finite; some values are not, of 'dog'"):
        Embeddings.load(arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_named(save: Callable[..., None], arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    save(path, **arrays)
    data = path.read_bytes()
    flipped = [data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :] for i in range(0, len(data), 9)]
    whole = 0
    for damaged in [b"", b"junk", b"\x93NUMPY", *(data[:n] for n in range(0, len(data), 31)), *flipped]:
        path.write_bytes(damaged)
        try:
            Embeddings.load(path)
            whole += 1  # bits that mean nothing, such as dates
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "trust" not in str(error)  # noqa: PT017
    assert whole < len(flipped) / 2


def test_one_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"embeddings must be an NPZ file; .*clip\.npy is none"):
        Embeddings.load(tmp_path / "clip.npy")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        Embeddings.load(tmp_path / "none.npz")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", image_paths=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Embeddings.load(tmp_path / "clip.npz")
