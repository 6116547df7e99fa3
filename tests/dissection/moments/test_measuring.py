"""Measuring of moments over a recording: by the hash of keys, once, and going on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from lwta.dissection.moments import measuring
from lwta.dissection.moments.folds import FOLDS, fold_of, folds_of
from lwta.dissection.moments.measuring import moments_of, sample_of
from lwta.dissection.moments.moments import Moments
from lwta.dissection.moments.sample import sampled
from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.recording.recording import MemoryRecording, Shard
from tests.support.trust import moments_by_fold
from tests.support.worlds import activations_of, embedded, in_batches, recorded


class StoppedError(Exception):
    """Somebody stopped the pass."""


class Counted(MemoryRecording):
    """Recording that counts the shards that are read, and is stopped before one of them."""

    read = 0
    stop: int | None = None

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        for shard in super().recorded_shards(module, numbers):
            if self.read == self.stop:
                raise StoppedError
            self.read += 1
            yield shard


def counted(activations: Activations, features: Tensor, size: int = 10) -> Counted:
    return Counted(in_batches(activations, features, size)._batches, [], "auto")


def same(found: Moments, wanted: Moments) -> bool:
    return all(torch.equal(getattr(found, field.name), getattr(wanted, field.name)) for field in fields(Moments))


@pytest.mark.parametrize("competitors", [None, 2])
def test_moments_of_a_recording_are_by_the_hash_of_keys(competitors: int | None) -> None:
    activations, features = activations_of(competitors, 100), embedded(100, 6)
    found = moments_of(in_batches(activations, features, 16), "layer")
    folds = folds_of(f"{999 - i}" for i in range(100))
    assert same(found, moments_by_fold(activations, features, folds))
    assert found.counts.tolist() == torch.bincount(folds, minlength=FOLDS).tolist()


def test_other_folds_of_the_same_images_are_measured_beside_the_first() -> None:
    recording = in_batches(activations_of(2, 100), embedded(100, 6), 16)
    first, few, other = (
        moments_of(recording, "layer"),
        moments_of(recording, "layer", folds=3),
        moments_of(recording, "layer", salt="b"),
    )
    assert few.counts.tolist() == torch.bincount(folds_of(recording.keys, 3), minlength=3).tolist()
    assert other.counts.tolist() == torch.bincount(folds_of(recording.keys, salt="b"), minlength=FOLDS).tolist()
    assert not torch.equal(first.counts, other.counts)
    torch.testing.assert_close(first.statistics(), other.statistics())
    assert same(first, moments_of(recording, "layer"))


def test_moments_are_measured_once() -> None:
    recording = counted(activations_of(None, 40), embedded(40, 6))
    found = moments_of(recording, "layer")
    sample_of(recording, "layer")
    recording.active("layer")
    assert recording.read == 4
    assert same(found, moments_of(recording, "layer"))
    assert recording.read == 4


@pytest.mark.parametrize("competitors", [None, 4])
def test_a_pass_that_is_stopped_goes_on_from_there(monkeypatch: pytest.MonkeyPatch, competitors: int | None) -> None:
    activations, features = activations_of(competitors, 100), embedded(100, 6)
    whole = counted(activations, features)
    wanted, sample = moments_of(whole, "layer"), sample_of(whole, "layer")
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    recording = counted(activations, features)
    for stop in (3, 4, 8):
        recording.stop = stop
        with pytest.raises(StoppedError):
            moments_of(recording, "layer")
    recording.stop = None
    assert same(moments_of(recording, "layer"), wanted)
    assert recording.read == 10  # each once
    found = sample_of(recording, "layer")
    assert torch.equal(found.values, sample.values)
    assert torch.equal(found.features, sample.features)
    assert torch.equal(recording.active("layer"), whole.active("layer"))
    assert recording.kept("layer").get(f"partial-{FOLDS}") is None


def test_what_was_done_since_it_was_last_written_down_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    activations, features = activations_of(None, 100), embedded(100, 6)
    wanted = moments_of(counted(activations, features), "layer")
    clock = iter([0.0, 1.0, 61.0, 61.0, *[62.0] * 100])  # begun; after shard 0, after shard 1, when that is written; …
    monkeypatch.setattr(measuring, "monotonic", lambda: next(clock))
    recording = counted(activations, features)
    recording.stop = 7
    with pytest.raises(StoppedError):
        moments_of(recording, "layer")
    recording.stop = None
    assert same(moments_of(recording, "layer"), wanted)
    assert recording.read == 7 + 8  # shards 0 and 1 are not read again


def test_embeddings_that_are_not_finite_are_refused_by_name() -> None:
    features = embedded(5, 3)
    features[3, 1] = torch.nan
    with pytest.raises(ValueError, match="recorded embeddings must be finite, those of 1 images are not: '003'"):
        moments_of(recorded(activations_of(2, 5), features), "layer")


def test_an_image_keeps_its_fold_whatever_else_there_is() -> None:
    keys = [f"class {i % 7}/{i}.png" for i in range(4000)]
    folds = folds_of(keys)
    assert folds.tolist() == [fold_of(key) for key in keys]
    assert torch.equal(folds_of(reversed(keys)).flip(0), folds)
    counts = torch.bincount(folds, minlength=FOLDS)
    assert int((counts - 500).abs().max()) < 100  # five deviations
    elsewhere = folds_of(keys, salt="1")
    assert float((folds == elsewhere).double().mean()) == pytest.approx(1 / FOLDS, abs=0.03)
    assert len(folds_of([])) == 0


def test_keys_of_any_text_have_a_fold() -> None:
    assert all(0 <= fold_of(key) < FOLDS for key in ("", "日本/ä.png", "\udcff.png", "a" * 10000))


def test_the_sample_holds_each_image_with_its_own_activations() -> None:
    activations, features = activations_of(2, 60), embedded(60, 5)
    recording = in_batches(activations, features, 7)
    found = sample_of(recording, "layer")
    assert found.keys == sorted(recording.keys)
    order = torch.tensor([recording.keys.index(key) for key in found.keys])
    assert torch.equal(found.values, activations.dense()[order])
    assert torch.equal(found.features, features[order])
    torch.testing.assert_close(moments_of(found, "layer").statistics(), moments_of(recording, "layer").statistics())
    changed = found.changed(torch.ones_like(found.values))
    assert float(moments_of(changed, "layer").statistics().deviations.max()) == 0


def test_the_sample_is_a_fair_part_that_grows_with_its_size() -> None:
    keys = [f"{i}.png" for i in range(3000)]
    small, large = sampled(keys, 200), sampled(keys, 900)
    assert int(small.sum()) == 200
    assert int(large.sum()) == 900
    assert bool((large >= small).all())
    assert 50 < int(small[:1500].sum()) < 150
    shared = torch.bincount(folds_of(keys)[large], minlength=FOLDS)
    assert int(shared.min()) > 60  # every fold has its share
    assert sampled(keys[:5], 200).all()


def test_a_layer_after_a_function_is_measured_after_it() -> None:
    values = torch.randn(50, 4)
    recording = in_batches(DenseActivations(values), embedded(50, 5), 8)
    recording.chosen["layer"] = replace(recording.chosen["layer"], transform="softmax")
    found = moments_of(recording, "layer")
    torch.testing.assert_close(found.sums.sum(), torch.tensor(50.0, dtype=torch.float64))
