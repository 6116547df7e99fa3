"""Protocol of the similarities: accumulators over shards of images, or expressions in the moments of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.moments.moments import Moments, Statistics
from lwta.dissection.moments.sums import LayerSums, ProbeSums
from lwta.dissection.recording.recording import Shard


class Words(NamedTuple):
    """Words that are chosen for each of D neurons, up to K for each: those of most weight first."""

    concepts: Tensor
    """Index of each word among the concepts, (D, K) int64; −1 where there is none."""
    weights: Tensor
    """Weight of each word, (D, K) float64 ≥ 0; 0 where there is none. It multiplies the word's contrast, in units of
    its standard deviation over the images: see `contrasts`."""

    @classmethod
    def single(cls, scores: Tensor) -> Words:
        """Return the word of the highest score of each neuron, the earlier of equals; none where a score is NaN.

        Example:
            >>> Words.single(torch.tensor([[0.1, 0.3, 0.3], [float("nan")] * 3])).concepts.flatten()
            tensor([ 1, -1])
        """
        largest = scores.amax(1, keepdim=True)
        missing = largest.isnan()
        concepts = (scores == largest).int().argmax(1, keepdim=True).masked_fill(missing, -1)
        return cls(concepts, (~missing).double())

    def directions(self, statistics: Statistics, contrasts: Tensor) -> Tensor:
        """Return the direction whose product with an image's embedding predicts each neuron, (D, d) float64.

        Args:
            statistics: the images over which contrasts are standardised.
            contrasts: (M, d), see `contrasts`.
        """
        chosen = contrasts.double()[self.concepts.clamp(min=0)]
        scales = statistics.scales(chosen)
        weights = torch.where((self.concepts >= 0) & (scales > 0), self.weights / scales, 0)
        return torch.einsum("ik,ikd->id", weights, chosen)


def contrasts(texts: Tensor) -> Tensor:
    """Return the embedding of each concept less the mean of all, (M, d).

    Its product with the embedding of an image is how much more the image resembles this text than texts on average.
    By the cosine alone some images resemble any text.
    """
    return texts - texts.mean(0)


class Similarity(Protocol):
    """Accumulator of the similarity of every neuron with every concept over the probing set, shard by shard.

    The scores are the same, bit for bit, however the images are cut into shards, in whatever order the shards come,
    and whichever of them are merged first. Matrices of images by neurons or images by concepts are never formed.
    """

    @property
    def name(self) -> str:
        """Name by which users ask for the similarity."""
        ...

    def update(self, shard: Shard) -> None:
        """Add a shard; every image of the probing set must be added once."""

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores against M concepts; later, shards may be added and other concepts scored.

        Args:
            text_features: (M, d) float32 normalised CLIP text embeddings. If they are on a GPU, similarities that have
                kernels are computed there; the scores are then those of the CPU up to rounding.

        Returns:
            Scores, (D, M) float32 on the CPU, higher is more similar; NaN for a dead neuron, which has no label.

        Raises:
            ValueError: no shard was added.
        """
        ...


class _SummedMoments:
    """Moments of the shards that were added, all in one fold."""

    def __init__(self) -> None:
        self._probe, self._own = ProbeSums(1), LayerSums(1)

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        self._probe.add(0, shard.features)
        self._own.add(0, shard.activations, shard.features)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._probe.merge(other._probe)
        self._own.merge(other._own)

    def statistics(self) -> Statistics:
        """Return means and covariances.

        Raises:
            ValueError: no shard was added.
        """
        return Moments(**self._probe.totals(), **self._own.totals()).statistics()


class FromMoments(ABC):
    """Base class of similarities that are expressions in the moments of a layer, and need no image beside them.

    Subclasses define `scores`, and `paths` if they choose several words for a neuron.
    """

    name: str

    def __init__(self) -> None:
        self._sums = _SummedMoments()

    @abstractmethod
    def scores(self, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the similarity of every neuron with every concept, (D, M) float32; NaN for a constant neuron."""

    def paths(self, statistics: Statistics, text_features: Tensor) -> list[Words]:
        """Return the choices among which cross-validation decides: with one word for each neuron, with two, and so on.

        Unless a subclass has a better way, the only choice is the word of the highest score.

        Args:
            statistics: moments that the words are chosen by.
            text_features: (M, d) float32 normalised text embeddings.
        """
        return [Words.single(self.scores(statistics, text_features))]

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        self._sums.update(shard)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._sums.merge(other._sums)

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32 on the CPU.

        Raises:
            ValueError: no shard was added.
        """
        return self.scores(self._sums.statistics(), text_features.cpu())

    def explain(self, text_features: Tensor) -> Words:
        """Return the words chosen for every neuron, as many as there may be.

        Raises:
            ValueError: no shard was added.
        """
        return self.paths(self._sums.statistics(), text_features.cpu())[-1]


class BesideMoments(ABC):
    """Base class of similarities of which a part has to see the images, and the rest follows from the moments.

    Where the moments of a layer are known, only `of_images` sees its images, and `combined` adds the rest. Alone, as an
    accumulator like any other, such a similarity sums the moments up as well.
    """

    name: str

    def __init__(self) -> None:
        self._seen, self._sums = self.of_images(), _SummedMoments()

    @abstractmethod
    def of_images(self) -> Similarity:
        """Return a fresh accumulator of the part that has to see the images."""

    @abstractmethod
    def combined(self, of_images: Tensor, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32.

        Args:
            of_images: (D, M), what `of_images` found.
            statistics: moments of the same images.
            text_features: (M, d) float32 normalised text embeddings, on the CPU.
        """

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        self._seen.update(shard)
        self._sums.update(shard)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._seen.merge(other._seen)
        self._sums.merge(other._sums)

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32 on the CPU.

        Raises:
            ValueError: no shard was added.
        """
        return self.combined(self._seen.finalize(text_features), self._sums.statistics(), text_features.cpu())
