"""One pass over the probe, and what stays of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwta.dissection.activations import Activations, Pool
from lwta.dissection.encoder import Encoder
from lwta.dissection.encoding import Encoded, encode
from lwta.dissection.loading import Skipped, Transform
from lwta.dissection.precision import Precision
from lwta.dissection.probe import Probe
from lwta.dissection.similarity import Shard, Similarity
from lwta.dissection.similarity.top import NONE, largest, pack, unpack
from lwta.dissection.words import repeated, some


@dataclass(frozen=True)
class Recording:
    """Activations of the dissected layers on every image of the probe, and the images' CLIP embeddings, in memory.

    Of competitive layers only the wins are kept.
    """

    keys: list[str]
    """Of the N images, in the order of the pass."""
    labels: list[str | None]
    """Of the images, where the probe had any."""
    features: Tensor
    """(N, d) float32."""
    layers: dict[str, list[Activations]]
    """By layer, the activations batch by batch."""
    skipped: list[Skipped]
    """Images that could not be read."""
    pool: Pool
    """As the user gave it."""

    def __post_init__(self) -> None:
        twice = repeated(self.keys)
        if twice:
            raise ValueError(f"probe must give every image a key of its own; {some(twice)} repeated")

    @cached_property
    def sorted_keys(self) -> list[str]:
        """The keys by rank."""
        return sorted(self.keys)

    @cached_property
    def ranks(self) -> Tensor:
        """(N,) int64: place of each image's key among the sorted keys."""
        rank = {key: i for i, key in enumerate(self.sorted_keys)}
        return torch.tensor([rank[key] for key in self.keys])

    def shards(self, layer: str) -> Iterator[Shard]:
        """The batches of one layer."""
        start = 0
        for activations in self.layers[layer]:
            part = slice(start, start := start + len(activations))
            yield Shard(self.ranks[part], self.features[part], activations)

    def wins(self, layer: str) -> Tensor | None:
        """(D,) int64: on how many images each neuron won; None for a layer without competition."""
        wins = [counts for activations in self.layers[layer] if (counts := activations.wins()) is not None]
        return torch.stack(wins).sum(0) if wins else None

    def win_shares(self, layer: str) -> Tensor | None:
        """(D,) float64: share of all images and positions that each neuron won; None without competition."""
        shares = [won for activations in self.layers[layer] if (won := activations.positions_won()) is not None]
        return torch.stack(shares).sum(0) / len(self.keys) if shares else None

    def answered(self, layer: str) -> Tensor:
        """(D,) bool: whether each neuron won on any image, or, without competition, was other than 0 on any."""
        return torch.stack([activations.answered() for activations in self.layers[layer]]).any(0)

    def scores(self, make_similarity: Callable[[], Similarity], text_features: Tensor) -> dict[str, Tensor]:
        """By layer, the (D, M) float32 scores of its neurons against M concepts (M, d)."""
        scores = {}
        for layer in self.layers:
            similarity = make_similarity()
            for shard in self.shards(layer):
                similarity.update(shard)
            scores[layer] = similarity.finalize(text_features)
        return scores

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


def record(
    model: nn.Module,
    layers: str | Iterable[str],
    probe: Probe,
    *,
    clip: Encoder,
    transform: Transform,
    pool: Pool,
    batch_size: int,
    workers: int,
    seed: int,
    device: torch.device | str | None,
    progress: bool,
    precision: Precision = "auto",
    draws: int = 1,
    compile: bool = False,
) -> Recording:
    """Run network and CLIP once over the probe. Arguments as in `dissect`."""
    read: list[Encoded] = []
    total = None if probe.keys is None else len(probe.keys)
    with tqdm(total=total, desc="dissecting", unit=" images", disable=not progress) as bar:
        for batch in encode(
            model,
            layers,
            probe,
            clip=clip,
            transform=transform,
            pool=pool,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            device=device,
            precision=precision,
            draws=draws,
            compile=compile,
        ):
            read.append(batch)
            bar.update(len(batch.keys) + len(batch.skipped))
    skipped = [image for batch in read for image in batch.skipped]
    _tell_skipped(probe.name, sum(len(batch.keys) for batch in read), skipped)
    read = [batch for batch in read if batch.keys]
    return Recording(
        keys=[key for batch in read for key in batch.keys],
        labels=[label for batch in read for label in batch.labels],
        features=torch.cat([batch.features for batch in read]),
        layers={name: [batch.activations[name] for batch in read] for name in read[0].activations},
        skipped=skipped,
        pool=pool,
    )


def _tell_skipped(name: str, readable: int, skipped: list[Skipped]) -> None:
    """Warn, to the caller of `dissect`, of images that were skipped; raise if there were no others."""
    why = ""
    if skipped:
        keys = some([image.key for image in skipped])
        why = f": {keys} could not be read (the first: {skipped[0].problem})"
    if not readable:
        raise ValueError(f"probe must hold a readable image; {name} holds none{why}")
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(skipped) + readable} images of {name} skipped{why}", stacklevel=4)
