"""Linear explanations: a neuron's activation as a weighted sum of a few words."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Statistics
from lwta.dissection.similarity.base import FromMoments, Words
from lwta.dissection.similarity.correlation import correlations, standardised

WORDS = 5
MOST_WORDS = 10
TEMPERATURE = 0.2
ROUNDS = 4  # in which weights and confusions settle
SWEEPS = 4  # over the weights before it is tried which of them stay above 0
PIVOTS = 8  # of the support before weights are swept
TRIALS = 33
NEGLIGIBLE = 1e-5  # share of the largest weight of a neuron below which one is rounding
NEURONS = 512  # at a time, of which the gains of all words are held


class Linear(FromMoments):
    """Explanation of a neuron by a few weighted words, which predict what this neuron has and others have not.

    After Linear Explanations for Individual Neurons (Oikarinen & Weng, ICML 2024, arXiv 2405.06855): words are chosen
    greedily, their weights are non-negative, and the prediction is Σ_k w_k·s_k with s_k the contrast of word k in units
    of its deviation. There the target is the neuron's activation, so neighbours with something in common get the same
    words. Here the target is a_i − Σ_j p_ij·a_j, the activation less that of the neurons with which the explanation so
    far would confuse it: p_i = softmax_j(corr(â_i, a_j) / τ), settled together with the weights. This is an ascent on
    r_ii − τ·log Σ_j exp(r_ij / τ), the log-probability that the explanation picks the neuron out of its layer, which
    `Specific` maximises with one word. A neuron without others beside it is itself the target.

    `scores` are the correlations of `Correlation`. Everything follows from the moments of the layer.

    Args:
        words: number of words at most, 1 to 10; cross-validation stops earlier where further words add nothing.
        temperature: τ > 0; smaller separates the neurons further, larger predicts each better.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> a = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> linear = Linear(words=2)
        >>> linear.update(Shard(torch.arange(4), torch.eye(4), DenseActivations(a)))
        >>> linear.explain(torch.eye(4)).concepts.tolist()
        [[0, 1], [2, 3]]
    """

    name = "linear"

    def __init__(self, words: int = WORDS, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        if not 1 <= words <= MOST_WORDS:
            raise ValueError(f"words must be 1…{MOST_WORDS}, got {words}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.most, self.temperature = words, temperature

    def scores(self, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the correlations with single words, (D, M) float32; NaN for a constant neuron.

        Raises:
            ValueError: there is only one concept.
        """
        return correlations(statistics, statistics.cross, text_features)

    def paths(self, statistics: Statistics, text_features: Tensor) -> list[Words]:
        """Return the explanations of one word, of two, and so on up to the most; see `FromMoments.paths`.

        Raises:
            ValueError: there is only one concept.
        """
        fit = _Fit(statistics, standardised(statistics, text_features), self.temperature)
        return fit.run(min(self.most, len(text_features)))


class _Chosen(NamedTuple):
    """Words chosen so far for D neurons: k of each."""

    concepts: Tensor  # (D, k)
    weights: Tensor  # (D, k)
    confusions: Tensor  # (D, D): p


class _Fit:
    """Greedy choice of words and weights for all neurons of a layer at once."""

    def __init__(self, statistics: Statistics, directions: Tensor, temperature: float) -> None:
        self._alive = statistics.deviations > 0
        self._rivals = int(self._alive.sum()) > 1
        self._cross = statistics.cross.float()  # (D, d)
        self._words = directions.float()  # (M, d): contrasts in units of their deviations
        self._covariance = statistics.covariance.float()
        self._usable = self._words.abs().sum(1) > 0
        self._temperature = temperature

    def run(self, most: int) -> list[Words]:
        """Return the explanations of 1…most words."""
        neurons = len(self._cross)
        uniform = self._alive.float() / self._alive.sum().clamp_min(1)
        none = torch.empty(neurons, 0)
        chosen = _Chosen(none.long(), none, uniform.expand(neurons, -1))
        found = []
        for _ in range(most):
            concepts = torch.cat([chosen.concepts, self._next(chosen)[:, None]], 1)
            chosen = self._settled(concepts, chosen.confusions)
            found.append(self._as_words(chosen))
        return found

    def _target(self, confusions: Tensor) -> Tensor:
        """Covariance with the embeddings of what each neuron has and its likes have not, (D, d)."""
        return self._cross - confusions @ self._cross if self._rivals else self._cross

    def _next(self, chosen: _Chosen) -> Tensor:
        """Index of the word that would explain most of what is left of each neuron's target, (D,)."""
        explained = torch.einsum("ik,ikd->id", chosen.weights, self._words[chosen.concepts]) @ self._covariance
        left = self._target(chosen.confusions) - explained
        best = []
        for rows, taken in zip(left.split(NEURONS), chosen.concepts.split(NEURONS), strict=True):
            gains = (rows @ self._words.T).masked_fill_(~self._usable, -torch.inf)
            best.append(gains.scatter_(1, taken, -torch.inf).argmax(1))
        return torch.cat(best)

    def _settled(self, concepts: Tensor, confusions: Tensor) -> _Chosen:
        """Fit the weights to the target, and the target to what the weights would confuse, in turns."""
        words = self._words[concepts]  # (D, k, d)
        gram = torch.einsum("ikd,ild->ikl", words @ self._covariance, words)
        weights = torch.zeros(concepts.shape)
        for _ in range(ROUNDS):
            goal = torch.einsum("ikd,id->ik", words, self._target(confusions))
            weights = non_negative(gram, goal)
            confusions = (confusions + self._confused(words, gram, weights)) / 2
        return _Chosen(concepts, weights, confusions)

    def _confused(self, words: Tensor, gram: Tensor, weights: Tensor) -> Tensor:
        """Softmax over the neurons j of corr(â_i, a_j) / τ, (D, D)."""
        variance = torch.einsum("ik,ikl,il->i", weights, gram, weights).clamp_min(1e-12)
        r = torch.einsum("ik,ikd->id", weights, words) @ self._cross.T / variance.sqrt()[:, None]
        return (r / self._temperature).masked_fill_(~self._alive, -torch.inf).softmax(1)

    def _as_words(self, chosen: _Chosen) -> Words:
        """Words in the order of their weights; those without weight, and those of constant neurons, are left out."""
        weights, order = chosen.weights.double().sort(dim=1, descending=True, stable=True)
        weights = weights.masked_fill(~self._alive[:, None], 0)
        concepts = chosen.concepts.gather(1, order).masked_fill(weights <= 0, -1)
        return Words(concepts, weights)


def non_negative(gram: Tensor, goal: Tensor) -> Tensor:
    """Return the weights w ≥ 0 that minimise wᵀGw / 2 − gᵀw.

    By block principal pivoting (Kim & Park, SIAM Journal on Scientific Computing 33, 2011): weights below 0 leave the
    support, those along which the function falls enter it, until there are neither. Where that goes round in circles,
    descent in one coordinate after the other finds the support.

    Args:
        gram: (D, k, k), G of each neuron, with a positive diagonal.
        goal: (D, k), g of each neuron.

    Example:
        >>> non_negative(torch.eye(2)[None], torch.tensor([[2.0, -1.0]]))
        tensor([[2., 0.]])
    """
    found = torch.zeros_like(goal)
    pending = torch.arange(len(goal))  # neurons of which it is not known yet which weights are above 0
    weights, support = found, torch.ones_like(goal, dtype=torch.bool)  # theirs, as are gram and goal
    for trial in range(TRIALS):
        before = weights
        if trial >= PIVOTS:
            weights = _swept(gram, goal, weights)
            support = weights > 0
        exact, better = _with_support(gram, goal, support)
        settled = (better == support).all(1)
        weights = exact.clamp_min(0) if trial < PIVOTS else torch.where(settled[:, None], exact.clamp_min(0), weights)
        support = better
        if trial >= PIVOTS:  # what sweeps leave as it is stays so: some words say the same
            settled |= (weights == before).all(1)
        if bool(settled.any()):
            found[pending[settled]] = weights[settled]
            left = ~settled
            pending, gram, goal, weights, support = (x[left] for x in (pending, gram, goal, weights, support))
        if not len(pending):
            break
    found[pending] = weights
    return torch.where(found > NEGLIGIBLE * found.amax(1, keepdim=True), found, 0)


def _swept(gram: Tensor, goal: Tensor, weights: Tensor) -> Tensor:
    """Return the weights after some sweeps of descent in one coordinate after the other."""
    weights = weights.clone()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    own = diagonal.clamp_min(1e-12)
    coordinates = [part.unbind(1) for part in (gram, diagonal, own, goal, weights)]
    for _ in range(SWEEPS):
        for row, of_itself, divisor, wanted, weight in zip(*coordinates, strict=True):
            others = (row * weights).sum(1) - of_itself * weight
            weight.copy_(((wanted - others) / divisor).clamp_min(0))
    return weights


def _with_support(gram: Tensor, goal: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the weights in a support (D, k); return them, and the support to try next, the same at the minimum."""
    inside = support[:, :, None] & support[:, None, :]
    exactly = gram.double()
    system = torch.where(inside, exactly, torch.eye(goal.shape[1], dtype=torch.float64))
    exact = torch.linalg.solve_ex(system, (goal * support).double()[..., None]).result[..., 0]
    exact = torch.where(exact.isfinite(), exact, -1)  # words that say the same: some of them leave
    slope = (exactly @ exact[..., None])[..., 0] - goal
    falls = (slope < -1e-5 * goal.abs().amax(1, keepdim=True)) & ~support
    return exact.to(goal.dtype), (support & (exact >= 0)) | falls
