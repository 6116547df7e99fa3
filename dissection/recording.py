"""One pass over the probe, and what stays of it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor
from tqdm import tqdm

from lwta.dissection.activations import Activations, Pool
from lwta.dissection.encoding import Encoded, Pass, encode
from lwta.dissection.loading import Skipped
from lwta.dissection.similarity import Shard, Similarity
from lwta.dissection.similarity.top import NONE, largest, pack, unpack
from lwta.dissection.words import printable, repeated, some


class Tally:
    """How often the neurons of a layer won or answered, summed up shard by shard."""

    def __init__(self) -> None:
        self.wins: Tensor | None = None
        """(D,) int64: on how many images each neuron won; None for a layer without competition."""
        self.positions_won: Tensor | None = None
        """(D,) float64: sum over the images of the share of positions that each won; None without competition."""
        self.competitors: int | None = None
        """U; None for a layer without competition."""
        self.answered = torch.zeros((), dtype=torch.bool)
        """(D,) bool: whether each won on any image, or, without competition, was other than 0 on any."""

    def update(self, activations: Activations) -> None:
        """Take in the activations of a shard."""
        wins, positions = activations.wins(), activations.positions_won()
        self.answered = self.answered | activations.answered()
        self.competitors = activations.competitors
        if wins is not None and positions is not None:
            self.wins = wins if self.wins is None else self.wins + wins
            self.positions_won = positions if self.positions_won is None else self.positions_won + positions


class Recording(ABC):
    """Activations of the dissected layers on every image of the probe, and the images' CLIP embeddings.

    Of competitive layers only the wins are kept.

    Args:
        keys: of the N images, in the order of the pass.
        labels: of the images, where the probe had any.
        layers: names of the layers.
        skipped: images that could not be read.
        pool: as the user gave it.

    Raises:
        ValueError: a key occurs twice.
    """

    def __init__(
        self,
        keys: Sequence[str],
        labels: Sequence[str | None],
        layers: Sequence[str],
        skipped: Sequence[Skipped],
        pool: Pool,
    ) -> None:
        twice = repeated(keys)
        if twice:
            raise ValueError(f"probe must give every image a key of its own; {some(twice)} repeated")
        self.keys, self.labels, self.layers, self.skipped, self.pool = keys, labels, list(layers), list(skipped), pool
        self._tallies: dict[str, Tally] = {}

    @abstractmethod
    def shards(self, layer: str) -> Iterator[Shard]:
        """Every image once, a portion at a time, with what one layer made of it."""

    @cached_property
    def sorted_keys(self) -> list[str]:
        """The keys by rank."""
        return sorted(self.keys)

    @cached_property
    def ranks(self) -> Tensor:
        """(N,) int64: place of each image's key among the sorted keys."""
        rank = {key: i for i, key in enumerate(self.sorted_keys)}
        return torch.tensor([rank[key] for key in self.keys])

    def wins(self, layer: str) -> Tensor | None:
        """(D,) int64: on how many images each neuron won; None for a layer without competition."""
        return self._tally(layer).wins

    def competitors(self, layer: str) -> int | None:
        """U of a competition, whose block b has the neurons b·U to b·U + U − 1; None without competition."""
        return self._tally(layer).competitors

    def win_shares(self, layer: str) -> Tensor | None:
        """(D,) float64: share of all images and positions that each neuron won; None without competition."""
        positions = self._tally(layer).positions_won
        return None if positions is None else positions / len(self.keys)

    def block_shares(self, layer: str) -> Tensor | None:
        """(B, U) float64: how the competitors of each block divide its wins; None without competition."""
        shares, competitors = self.win_shares(layer), self.competitors(layer)
        if shares is None or competitors is None:
            return None
        blocks = shares.view(-1, competitors)
        return blocks / blocks.sum(1, keepdim=True)

    def answered(self, layer: str) -> Tensor:
        """(D,) bool: whether each neuron won on any image, or, without competition, was other than 0 on any."""
        return self._tally(layer).answered

    def scores(
        self, make_similarity: Callable[[], Similarity], text_features: Tensor, layers: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """By layer, of all or of some, the (D, M) float32 scores of its neurons against M concepts (M, d).

        Raises:
            ValueError: a recorded embedding is not finite, or a score is NaN of a neuron that is not dead.
        """
        scores = {}
        for layer in self.layers if layers is None else layers:
            similarity, tally = make_similarity(), Tally()
            for shard in self.shards(layer):
                similarity.update(self.checked(shard, text_features))
                tally.update(shard.activations)
            self._tallies[layer] = tally  # what was read for the one serves the other
            scores[layer] = similarity.finalize(text_features)
            self.check_scores(layer, scores[layer], text_features)
        return scores

    def checked(self, shard: Shard, text_features: Tensor) -> Shard:
        """The shard, once its embeddings are seen to be finite: stores may hold others, of versions that did not look.

        Raises:
            ValueError: some are not finite, or have another length than those of the concepts.
        """
        features, numbers = shard.features, text_features.shape[1]
        if features.shape[1] != numbers:
            raise ValueError(
                f"clip must embed images and concepts alike, got {features.shape[1]} numbers for each image and "
                f"{numbers} for each concept"
            )
        bad = shard.ranks[~features.isfinite().all(1)].tolist()
        if bad:
            names = some([self.sorted_keys[rank] for rank in bad])
            raise ValueError(
                f"recorded embeddings must be finite, those of {len(bad)} images are not: {names}; see to the encoder, "
                "and record the images anew, into another store if it was one"
            )
        return shard

    def check_scores(self, layer: str, scores: Tensor, text_features: Tensor) -> None:
        """See that there are scores of every neuron of a layer that is not dead, whatever similarity made them.

        NaN stands for a neuron that is dead, against all concepts. As dead may count one that was never above 0.

        Raises:
            ValueError: scores are NaN of a neuron that is not dead, or not (D, M).
        """
        answered = self.answered(layer)
        if scores.shape != (len(answered), len(text_features)):
            raise ValueError(
                f"similarity must return shape ({len(answered)}, {len(text_features)}), of the neurons of layer "
                f"{layer!r} and the concepts, got {tuple(scores.shape)}"
            )
        missing = scores.isnan()
        wrong = missing.any(1) & (answered | ~missing.all(1))
        if wrong.any():  # seldom, as it takes a pass over the layer
            wrong &= self._ever_positive(layer) | ~missing.all(1)
        neurons = wrong.nonzero().flatten().tolist()
        if neurons:
            raise ValueError(
                f"similarity must have a score for every neuron that is not dead, got NaN for {len(neurons)} of layer "
                f"{layer!r}: {', '.join(map(str, neurons[:5]))}{', …' if len(neurons) > 5 else ''}"
            )

    def _ever_positive(self, layer: str) -> Tensor:
        """(D,) bool: whether each neuron was above 0 on any image."""
        positive = torch.zeros((), dtype=torch.bool)
        for shard in self.shards(layer):
            positive = positive | (shard.activations.dense() > 0).any(0)
        return positive

    def top_images(self, layer: str, n: int) -> list[list[tuple[str, float]]]:
        """For each neuron, keys and activations of the ≤ n images that excite it most; ties go to the smaller key."""
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
        if layer not in self._tallies:
            tally = Tally()
            for shard in self.shards(layer):
                tally.update(shard.activations)
            self._tallies[layer] = tally
        return self._tallies[layer]


class MemoryRecording(Recording):
    """A recording in memory.

    Args:
        batches: of the whole probe, in order, each with a readable image at least.
        skipped: images that could not be read.
        pool: as the user gave it.
    """

    def __init__(self, batches: Sequence[Encoded], skipped: Sequence[Skipped], pool: Pool) -> None:
        keys = list(chain.from_iterable(batch.keys for batch in batches))
        labels = list(chain.from_iterable(batch.labels for batch in batches))
        super().__init__(keys, labels, list(batches[0].activations), skipped, pool)
        self._batches = batches

    def shards(self, layer: str) -> Iterator[Shard]:
        """The batches."""
        start = 0
        for batch in self._batches:
            part = slice(start, start := start + len(batch.keys))
            yield Shard(self.ranks[part], batch.features, batch.activations[layer])


def record(work: Pass, *, progress: bool) -> Recording:
    """Run network and CLIP once over the probe."""
    probe, read = work.probe, list[Encoded]()
    total = None if probe.keys is None else len(probe.keys)
    with tqdm(total=total, desc="dissecting", unit=" images", disable=not progress) as bar:
        for batch in encode(work):
            read.append(batch)
            bar.update(len(batch.keys) + len(batch.skipped))
    skipped = [image for batch in read for image in batch.skipped]
    tell_skipped(probe.name, sum(len(batch.keys) for batch in read), skipped)
    return MemoryRecording([batch for batch in read if batch.keys], skipped, work.pool)


def tell_skipped(name: str, readable: int, skipped: list[Skipped]) -> None:
    """Warn, to the caller of `dissect`, of images that were skipped; raise if there were no others."""
    why = ""
    if skipped:
        keys = some([image.key for image in skipped])
        why = f": {keys} could not be read (the first: {printable(skipped[0].problem)})"
    if not readable:
        raise ValueError(f"probe must hold a readable image; {printable(name)} holds none{why}")
    if skipped:
        counted = f"{len(skipped)} of {len(skipped) + readable} images of {printable(name)}"
        warnings.warn(f"{counted} skipped{why}", stacklevel=4)
