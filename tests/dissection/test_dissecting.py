"""Dissection from end to end, in a world where the answers are known."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lwta.dissection import SoftWPMI
from lwta.dissection.similarity import Linear
from lwta.dissection.trust.abstention import NOTHING
from tests.support.worlds import ColourNetwork, dissected, embeddings, images, to_tensor


@pytest.mark.parametrize("similarity", ["soft_wpmi", "cos", partial(SoftWPMI, top_k=5)])
def test_neurons_are_named_by_what_they_see(similarity: Any) -> None:
    result = dissected(similarity=similarity, abstain=False)
    red, green, blue, nothing = result.labels("act")
    assert (red.concept, green.concept, blue.concept) == ("a red thing", "a green thing", "a blue thing")
    assert (red.wins, green.wins, blue.wins, nothing.wins) == (20, 10, 10, 20)  # the first unit wins ties
    assert result.dead("act") == []
    assert result.labels("head")[2].wins is None


def test_dead_neurons_have_no_label() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    for similarity in ("soft_wpmi", "cos"):
        result = dissected(probe=reds, similarity=similarity, abstain=False)
        labels = result.labels("act")
        assert [label.concept is None for label in labels] == [False, True, True, False]
        assert [label.reason for label in labels] == [None, "never active", "never active", None]
        assert labels[1].runner_ups == ()
        assert result.dead("act") == [1, 2]
    # all images look alike to CLIP, and the last unit is the same on all
    reasons = [label.reason for label in dissected(probe=reds, similarity="auto", abstain=False).labels("act")]
    assert reasons == [NOTHING, "never active", "never active", NOTHING]


def test_neurons_that_no_word_fits_say_why() -> None:
    """The last two units of the layer both follow blue."""
    result = dissected(similarity="auto")
    red, green, *others = result.labels("act")
    assert (red.concept, green.concept, red.reason) == ("a red thing", "a green thing", None)
    for label in others:
        assert (label.concept, label.closest) == (None, "a blue thing")
        assert label.text() == "no word fits (closest: a blue thing)"
        assert label.reason is not None
    few = dissected(probe=images(15), similarity="auto").labels("act")
    assert {label.reason for label in few} == {"only 15 images, too few to check a label (16 are needed)"}
    every = result.relabel(abstain=False).labels("act")
    assert [label.concept for label in every] == [f"a {word} thing" for word in ("red", "green", "blue", "blue")]
    assert [label.r for label in every] == [label.r for label in result.labels("act")]


def test_the_same_seed_gives_the_same_result_and_touches_nothing() -> None:
    model = ColourNetwork("sample")
    model.train()
    state = torch.get_rng_state()
    first, second, other = (dissected(model, seed=seed) for seed in (3, 3, 4))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.similarities("act"), second.similarities("act"))
    assert not torch.equal(first.similarities("act"), other.similarities("act"))


def test_batch_size_and_workers_change_nothing() -> None:
    scores = [
        dissected(batch_size=size, workers=workers).similarities("act") for size, workers in ((8, 0), (1, 0), (30, 2))
    ]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_order_of_the_images_changes_nothing() -> None:
    for similarity in ("auto", "correlation"):
        scores = [
            dissected(probe=probe, similarity=similarity, layers="head").similarities("head")
            for probe in (images(30), images(30)[::-1])
        ]
        assert torch.equal(*scores)


def test_each_image_is_decoded_and_seen_once() -> None:
    seen: list[tuple[int, ...]] = []

    def transform(image: Image.Image) -> torch.Tensor:
        seen.append(image.getpixel((0, 0)))  # type: ignore[arg-type]
        return to_tensor(image)

    result = dissected(transform=transform)
    result.relabel(["a red thing", "a blue thing"], "cos")
    assert len(seen) == 30


def test_broken_images_are_skipped_counted_and_named(tmp_path: Path) -> None:
    for key, image in images(9):
        path = tmp_path / key
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    (tmp_path / "red" / "000.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 9 images of .* skipped: 'red/000.png' could not be read"):
        result = dissected(probe=tmp_path, batch_size=1)
    assert [image.key for image in result.skipped] == ["red/000.png"]
    assert len(result.recording.keys) == 8
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="probe must hold a readable image"):
        dissected(probe=tmp_path)


def test_a_clean_probe_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dissected()


def test_mistakes_come_to_light_before_the_images_are_read() -> None:
    def never(image: Image.Image) -> torch.Tensor:
        raise AssertionError

    with pytest.raises(ValueError, match="'haed' is none; did you mean 'head'"):
        dissected(layers="haed", transform=never)
    with pytest.raises(ValueError, match="similarity must be one of"):
        dissected(similarity="nearest", transform=never)
    for similarity in ("auto", "peak", partial(Linear, words=2)):
        with pytest.raises(ValueError, match="concepts must hold at least two words, got 1"):
            dissected(concepts=["a red thing"], similarity=similarity, transform=never)
    with pytest.raises(ValueError, match="1 of 2 concepts have no text embedding: 'a dog'"):
        dissected(concepts=["a dog", "a red thing"], transform=never)
    with pytest.raises(ValueError, match=r"30 of 33 keys of the probe have no image embedding: 'red/000\.png'"):
        dissected(clip=embeddings([f"red/{i}" for i in range(3)]), transform=never, probe=[*images(30), *_more()])
    with pytest.raises(ValueError, match="transform must be given"):
        dissected(transform=None)


def _more() -> list[tuple[str, Image.Image]]:
    return [(f"red/{i}", Image.new("RGB", (4, 4))) for i in range(3)]


def test_repeated_keys_of_a_stream() -> None:
    with pytest.raises(ValueError, match=r"every image a key of its own; 'red/000.png' repeated"):
        dissected(probe=iter([*images(3), *images(1)]))
