"""Recordings: activations and CLIP embeddings of all images of the probe, kept from one pass over it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import Self

from lwta.dissection.recording.activations import Activations, Pool
from lwta.dissection.recording.kept import Kept, KeptInMemory
from lwta.dissection.recording.layers import Layer, LayerTransform, transformed
from lwta.dissection.recording.loading import Skipped
from lwta.dissection.recording.one_pass import Encoded, Pass, encode
from lwta.support.ranking import NONE, largest, pack, unpack
from lwta.support.text import printable, repeated, some

TALLY = "tally"
"""Name under which the counts of a layer are kept."""


class Shard(NamedTuple):
    """Part of the probing set: n images with their CLIP embeddings and the activations of one layer."""

    ranks: Tensor
    """Place of each image's key among all keys of the probe in sorted order, (n,) int64; it breaks ties."""

    features: Tensor
    """CLIP embeddings of the images, (n, d) float32, normalised."""

    activations: Activations
    """Activations of the D neurons of the layer on the n images."""


class Tally:
    """Counts of how often the neurons of a layer won or were active, summed up shard by shard."""

    def __init__(self) -> None:
        self.wins: Tensor | None = None
        """Number of images on which each neuron won, (D,) int64; None for a layer without competition."""
        self.positions_won: Tensor | None = None
        """Sum over the images of the share of positions each neuron won, (D,) float64; None without competition."""
        self.competitors: int | None = None
        """Competitors in a block, U; None for a layer without competition."""
        self.active = torch.zeros((), dtype=torch.bool)
        """Mask of the active neurons, (D,) bool: those that won an image or, without competition, were not always 0."""

    def state(self) -> dict[str, Tensor]:
        """Return the counts as tensors by name, from which `restored` makes them again."""
        counts = {"wins": self.wins, "positions_won": self.positions_won, "active": self.active}
        competitors = None if self.competitors is None else torch.tensor(self.competitors)
        return {name: value for name, value in {**counts, "competitors": competitors}.items() if value is not None}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor]) -> Self:
        """Return the counts whose `state` this was."""
        found = cls()
        found.wins, found.positions_won, found.active = state.get("wins"), state.get("positions_won"), state["active"]
        found.competitors = int(state["competitors"]) if "competitors" in state else None
        return found

    def update(self, activations: Activations) -> None:
        """Add the activations of a shard."""
        wins, positions = activations.wins(), activations.positions_won()
        self.active = self.active | activations.active()
        self.competitors = activations.competitors
        if wins is not None and positions is not None:
            self.wins = wins if self.wins is None else self.wins + wins
            self.positions_won = positions if self.positions_won is None else self.positions_won + positions


class Recording(ABC):
    """Recording: activations of the dissected layers on every image of the probe, and the images' CLIP embeddings.

    For competitive layers only the wins are kept. What is recorded is the pooled output of each layer; the function
    that a `Layer` asks for is applied whenever shards are read. A layer goes by its key.

    Args:
        keys: keys of the N images, in the order of the pass.
        labels: labels of the images, where the probe had any.
        layers: the layers; several may be functions of the outputs of one module.
        skipped: images that could not be read.
        pool: pooling, as the user gave it.
        heads: names of the modules that were found to be classification heads.

    Raises:
        ValueError: the key of an image or a layer occurs twice.
    """

    def __init__(
        self,
        keys: Sequence[str],
        labels: Sequence[str | None],
        layers: Sequence[Layer],
        skipped: Sequence[Skipped],
        pool: Pool,
        heads: Collection[str] = (),
    ) -> None:
        twice = repeated(keys)
        if twice:
            raise ValueError(f"probe must give every image a key of its own; {some(twice)} repeated")
        self.keys, self.labels, self.skipped, self.pool = keys, labels, list(skipped), pool
        self.chosen = {layer.key: layer for layer in layers}
        """Layers by key."""
        self.heads = frozenset(heads)
        """Names of the modules that are classification heads, as far as that was recorded."""
        self._tallies: dict[str, Tally] = {}
        self._computed: dict[str | None, Kept] = {}

    @property
    def layers(self) -> list[str]:
        """Keys of the layers."""
        return list(self.chosen)

    def module(self, layer: str) -> str:
        """Return the name of the module whose outputs a layer, given by its key, is made of."""
        return self.chosen[layer].name

    def transform(self, layer: str) -> LayerTransform:
        """Return the function of a layer's outputs: "identity", "softmax" or "sigmoid", which "auto" stands for too."""
        chosen = self.chosen[layer]
        if chosen.transform != "auto":
            return chosen.transform
        return "softmax" if chosen.name in self.heads else "identity"

    def kept(self, layer: str | None) -> Kept:
        """Return the place for tensors that are computed from one layer, or from the embeddings alone (None)."""
        return self._computed.setdefault(layer, KeptInMemory())

    def shards(self, layer: str) -> Iterator[Shard]:
        """Yield all shards, in their order, with the activations of one layer."""
        for _, shard in self.numbered_shards(layer):
            yield shard

    def numbered_shards(self, layer: str) -> Iterator[tuple[int, Shard]]:
        """Yield number and content of all shards, in their order, with the activations of one layer."""
        tally = Tally() if self._counted(layer) is None else None
        for number in self.numbers:
            for shard in self.some_shards(layer, [number]):
                if tally is not None:
                    tally.update(shard.activations)
                yield number, shard
        if tally is not None:
            self._tallies[layer] = tally  # what was read for another purpose serves this one too
            if tally.active.ndim:  # else there is no image
                self.kept(layer).put(TALLY, tally.state())

    @property
    @abstractmethod
    def numbers(self) -> range:
        """Numbers of all shards."""

    def some_shards(self, layer: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the shards with these numbers, in their order; a shard without a readable image is left out.

        Raises:
            ValueError: a function is asked for of a layer with competition.
        """
        chosen, transform = self.chosen[layer], self.transform(layer)
        for shard in self.recorded_shards(chosen.name, numbers):
            yield shard._replace(activations=transformed(shard.activations, chosen, transform))

    @abstractmethod
    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the shards with these numbers as they were recorded, with the pooled outputs of a module.

        They are in their order; a shard without a readable image is left out.
        """

    @cached_property
    def sorted_keys(self) -> list[str]:
        """Keys of the images in sorted order, that is, by rank."""
        return sorted(self.keys)

    @cached_property
    def ranks(self) -> Tensor:
        """Place of each image's key among the sorted keys, (N,) int64."""
        rank = {key: i for i, key in enumerate(self.sorted_keys)}
        return torch.tensor([rank[key] for key in self.keys])

    def wins(self, layer: str) -> Tensor | None:
        """Return the number of images on which each neuron won, (D,) int64; None for a layer without competition."""
        return self._tally(layer).wins

    def competitors(self, layer: str) -> int | None:
        """Return the competitors in a block, U, or None without competition; block b has neurons b·U to b·U + U − 1."""
        return self._tally(layer).competitors

    def win_shares(self, layer: str) -> Tensor | None:
        """Return the share of all images and positions that each neuron won, (D,) float64; None without competition."""
        positions = self._tally(layer).positions_won
        return None if positions is None else positions / len(self.keys)

    def block_shares(self, layer: str) -> Tensor | None:
        """Return the share of its block's wins that each competitor has, (B, U) float64; None without competition."""
        shares, competitors = self.win_shares(layer), self.competitors(layer)
        if shares is None or competitors is None:
            return None
        blocks = shares.view(-1, competitors)
        return blocks / blocks.sum(1, keepdim=True)

    def active(self, layer: str) -> Tensor:
        """Return a mask of the active neurons, (D,) bool.

        A neuron is active if it won on any image or, without competition, was other than 0 on any.
        """
        return self._tally(layer).active

    def top_images(self, layer: str, n: int) -> list[list[tuple[str, float]]]:
        """Return keys and activations of the n images that excite each neuron most; ties go to the smaller key.

        A neuron of a competition has fewer if it won on fewer images.
        """
        best = torch.empty(0)
        for shard in self.shards(layer):
            candidates = pack(shard.activations.dense(absent=float("-inf")), shard.ranks[:, None]).T
            best = largest(torch.cat([best, candidates], dim=1) if len(best) else candidates, n)
        images = []
        for row in best:
            values, ranks = unpack(row[row != NONE])
            images.append([(self.sorted_keys[r], v) for r, v in zip(ranks.tolist(), values.tolist(), strict=True)])
        return images

    def _tally(self, layer: str) -> Tally:
        """Return the counts of a layer: those kept with the recording, or else all shards are read once."""
        if self._counted(layer) is None:
            for _ in self.shards(layer):
                pass
        return self._tallies[layer]

    def _counted(self, layer: str) -> Tally | None:
        """Return the counts of a layer, if all shards were read before; else None."""
        if layer not in self._tallies:
            state = self.kept(layer).get(TALLY)
            if state is not None:
                self._tallies[layer] = Tally.restored(state)
        return self._tallies.get(layer)


class MemoryRecording(Recording):
    """Recording in memory.

    Args:
        batches: batches of the whole probe, in order, each with at least one readable image.
        skipped: images that could not be read.
        pool: pooling, as the user gave it.
        layers: the layers; None for all modules that were recorded.

    Raises:
        ValueError: a key occurs twice.
    """

    def __init__(
        self,
        batches: Sequence[Encoded],
        skipped: Sequence[Skipped],
        pool: Pool,
        layers: Sequence[Layer] | None = None,
    ) -> None:
        keys = list(chain.from_iterable(batch.keys for batch in batches))
        labels = list(chain.from_iterable(batch.labels for batch in batches))
        chosen = [Layer(name) for name in batches[0].activations] if layers is None else layers
        super().__init__(keys, labels, chosen, skipped, pool, batches[0].heads)
        self._batches = batches

    @property
    def numbers(self) -> range:
        """Numbers of the batches; each is a shard."""
        return range(len(self._batches))

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the batches with these numbers as shards."""
        ends = list(accumulate(len(batch.keys) for batch in self._batches))
        for number in numbers:
            batch = self._batches[number]
            ranks = self.ranks[ends[number] - len(batch.keys) : ends[number]]
            yield Shard(ranks, batch.features, batch.activations[module])


def record(work: Pass, layers: Sequence[Layer], *, progress: bool) -> Recording:
    """Run network and CLIP once over the probe, and return the recording in memory.

    Args:
        work: settings of the pass.
        layers: layers of the recording, made of the modules that the pass records.
        progress: show a bar.

    Raises:
        ValueError: no image is readable, a key occurs twice, or the pass itself fails as `encode` does.
        TypeError: CLIP or a layer returned something else than a tensor of the right kind.

    Warns:
        UserWarning: images were skipped.
    """
    probe, read = work.probe, list[Encoded]()
    total = None if probe.keys is None else len(probe.keys)
    with tqdm(total=total, desc="dissecting", unit=" images", disable=not progress) as bar:
        for batch in encode(work):
            read.append(batch)
            bar.update(len(batch.keys) + len(batch.skipped))
    skipped = [image for batch in read for image in batch.skipped]
    warn_of_skipped(probe.name, sum(len(batch.keys) for batch in read), skipped)
    return MemoryRecording([batch for batch in read if batch.keys], skipped, work.pool, layers)


def warn_of_skipped(name: str, readable: int, skipped: list[Skipped]) -> None:
    """Warn of images that were skipped; the warning points to the caller of `dissect`.

    Args:
        name: name of the probe.
        readable: number of images that were read.
        skipped: images that were not.

    Raises:
        ValueError: no image was readable.

    Warns:
        UserWarning: images were skipped.
    """
    why = ""
    if skipped:
        keys = some([image.key for image in skipped])
        why = f": {keys} could not be read (the first: {printable(skipped[0].problem)})"
    if not readable:
        raise ValueError(f"probe must hold a readable image; {printable(name)} holds none{why}")
    if skipped:
        counted = f"{len(skipped)} of {len(skipped) + readable} images of {printable(name)}"
        warnings.warn(f"{counted} skipped{why}", stacklevel=4)
