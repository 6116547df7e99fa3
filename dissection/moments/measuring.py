"""Measuring of moments: one pass over a layer's shards, kept with the recording and resumed where it was stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.moments.folds import FOLDS, folds_of
from lwta.dissection.moments.moments import Moments
from lwta.dissection.moments.sample import Sample, SampledRows, sampled
from lwta.dissection.moments.sums import LayerSums, ProbeSums, parts_of
from lwta.dissection.recording.recording import Recording, Shard
from lwta.support.processes import Group
from lwta.support.text import some

SECONDS = 60.0
"""Time after which a pass that is not over writes down how far it came."""


def moments_of(
    recording: Recording,
    layer: str,
    *,
    folds: int = FOLDS,
    salt: str = "",
    group: Group = Group(),  # noqa: B008 (immutable)
) -> Moments:
    """Return the moments of a layer: those kept with the recording, or else measured now and kept.

    Sums are exact, so they are the same, bit for bit, however the images are cut into shards and shared by processes.
    A pass of one process that takes long writes down how far it came, and goes on from there.

    Args:
        recording: activations and embeddings of the probing set.
        layer: key of one of its layers.
        folds: number of folds.
        salt: text that makes other folds; see `lwta.dissection.moments.folds.fold_of`.
        group: processes that share the shards; the result is returned in all of them.

    Raises:
        ValueError: a recorded embedding is not finite, or there is no image.
    """
    found = _measured(recording, layer, ("probe", "own"), folds, salt, group)
    return Moments(**found["probe"], **found["own"])


def sample_of(recording: Recording, layer: str) -> Sample:
    """Return the sample of a recording's images with the activations of a layer, gathered in the pass of `moments_of`.

    Raises:
        ValueError: as in `moments_of`.
    """
    rows = _measured(recording, layer, ("sample",), FOLDS, "", Group())["sample"]
    keys = [recording.sorted_keys[rank] for rank in rows["ranks"].tolist()]
    return Sample(keys, recording.chosen[layer], recording.heads, rows["features"], rows["values"])


Measured = dict[str, dict[str, Tensor]]
"""Totals of the probing set by fold ("probe"), of the layer by fold ("own"), and the "sample"."""


def _measured(recording: Recording, layer: str, wanted: Sequence[str], folds: int, salt: str, group: Group) -> Measured:
    """Return some of what is kept of a layer, of which no more is read, or else measure everything and keep it."""
    tag = f"{folds}{salt and f'-{salt}'}"
    of_layer = recording.kept(layer)
    places = {
        "probe": (recording.kept(None), f"moments-{tag}"),
        "own": (of_layer, f"moments-{tag}"),
        "sample": (of_layer, "sample"),
    }

    def kept(parts: Iterable[str]) -> Measured:
        read = ((part, places[part][0].get(places[part][1])) for part in parts)
        return {part: tensors for part, tensors in read if tensors is not None}

    found = group.lead(lambda: kept(wanted))
    if len(found) == len(wanted):
        return found
    measured = _Measuring(recording, layer, folds, salt, f"partial-{tag}", group).run()
    if measured is None:
        raise ValueError("there is nothing to label: no image was taken in")
    if group.rank == 0:
        whole = found | kept(part for part in places if part not in wanted)  # which stay as they are
        for part, (place, name) in places.items():
            if part not in whole:
                place.put(name, measured[part])
    return measured


class _Sums(NamedTuple):
    """Sums of a pass."""

    probe: ProbeSums
    own: LayerSums
    sample: SampledRows


class _Measuring:
    """Pass over the shards of a layer that sums up its moments."""

    def __init__(self, recording: Recording, layer: str, folds: int, salt: str, partial: str, group: Group) -> None:
        self._recording, self._layer, self._partial, self._group = recording, layer, partial, group
        self._folds = folds_of(recording.sorted_keys, folds, salt)
        self._sums = _Sums(ProbeSums(folds), LayerSums(folds), SampledRows(sampled(recording.sorted_keys)))

    def run(self) -> Measured | None:
        """Return the totals, in all processes; None if there is no image."""
        alone = self._group.world_size == 1
        numbers = self._group.share(self._recording.numbers)
        done = self._resume() if alone else 0
        written = monotonic()
        for number, shard in self._shards(numbers, done):
            self._add(checked(self._recording, shard))
            if alone and monotonic() - written > SECONDS:
                states = ((name, part.state()) for name, part in self._sums._asdict().items())
                state = {f"{name}/{key}": value for name, part in states for key, value in part.items()}
                self._recording.kept(self._layer).put(self._partial, {"done": torch.tensor(number + 1), **state})
                written = monotonic()
        probe = self._group.merge(self._sums.probe)
        own = self._group.merge(self._sums.own)
        sample = self._group.merge(self._sums.sample)

        def totals() -> Measured | None:
            if probe is None or own is None or sample is None or not self._recording.keys:
                return None
            return {"probe": probe.totals(), "own": own.totals(), "sample": sample.totals()}

        found = self._group.lead(totals)
        if alone:
            self._recording.kept(self._layer).drop(self._partial)
        return found

    def _add(self, shard: Shard) -> None:
        for part in parts_of(shard, self._folds):
            self._sums.probe.add(part.fold, part.shard.features)
            self._sums.own.add(part.fold, part.shard.activations, part.shard.features)
        self._sums.sample.add(shard)

    def _resume(self) -> int:
        """Take over what a pass that was stopped had summed up; return the number of shards that are in it."""
        state = self._recording.kept(self._layer).get(self._partial)
        if state is None:
            return 0
        for name, part in self._sums._asdict().items():
            own = [key for key in state if key.startswith(f"{name}/")]
            part.restore({key.removeprefix(f"{name}/"): state[key] for key in own})
        return int(state["done"])

    def _shards(self, numbers: Sequence[int], done: int) -> Iterator[tuple[int, Shard]]:
        """Yield the shards with these numbers from ``done`` on; a pass over all of them counts wins as well."""
        if done == 0 and len(numbers) == len(self._recording.numbers):
            yield from self._recording.numbered_shards(self._layer)
            return
        for number in numbers:
            if number >= done:
                for shard in self._recording.some_shards(self._layer, [number]):
                    yield number, shard


def checked(recording: Recording, shard: Shard) -> Shard:
    """Return the shard if its embeddings are finite, else raise: stores of older versions may hold others.

    Raises:
        ValueError: an embedding is not finite; the images are named.
    """
    bad = shard.ranks[~shard.features.isfinite().all(1)].tolist()
    if bad:
        names = some([recording.sorted_keys[rank] for rank in bad])
        raise ValueError(
            f"recorded embeddings must be finite, those of {len(bad)} images are not: {names}; see to the encoder, "
            "and record the images anew, into another store if it was one"
        )
    return shard
