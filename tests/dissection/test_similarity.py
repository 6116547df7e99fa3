"""Similarities against the formulas written out densely, the published values, and themselves in pieces."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwta import Winners
from lwta.dissection.recording.activations import Activations, DenseActivations, pool_winners
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import SIMILARITIES, Cos, CosCubed, Similarity, SoftWPMI, find_similarity
from lwta.dissection.similarity.exact_sums import ExactGram, ExactProduct
from lwta.support.ranking import NONE, largest, pack, unpack

SHARDINGS = [("small", 1), ("small", 7), ("small", 64), ("small", None), ("medium", 64), ("medium", None)]
INPUTS = ("image_features", "text_features", "activations")
PUBLISHED_NAMES = {"cos": "cos_similarity", "cos_cubed": "cos_similarity_cubed"}
PUBLISHED_ROUNDING = {"cos": 5e-6, "cos_cubed": 5e-6, "wpmi": 2e-4, "soft_wpmi": 5e-4}  # sums of logarithms near 400
"""What float32 makes of the published formulas."""


def cos_formula(features: Tensor, texts: Tensor, activations: Tensor) -> Tensor:
    P, A = features.double() @ texts.double().T, activations.double()
    return (A / A.norm(dim=0)).T @ (P / P.norm(dim=0))


def soft_wpmi_formula(features: Tensor, texts: Tensor, activations: Tensor, won: Tensor, k: int = 100) -> Tensor:
    """With k' = min(k, wins) images for each neuron; neurons that never won are NaN."""
    S = torch.softmax(10 * features.double() @ texts.double().T, dim=1)
    log_p = torch.full((activations.shape[1], len(texts)), math.nan, dtype=torch.float64)
    for neuron in range(activations.shape[1]):
        candidates = won[:, neuron].nonzero().flatten().tolist()
        best = sorted(candidates, key=lambda n: (-activations[n, neuron].item(), n))[:k]
        if best:
            terms = [
                torch.log(1 + (0.998 - j / k * 0.028) * (S[n] - 1) + 1e-7).unsqueeze(0) for j, n in enumerate(best)
            ]
            log_p[neuron] = torch.cat(terms).sum(0) * k / len(best)
    alive = log_p[~log_p.isnan().any(1)]
    return log_p - (torch.logsumexp(alive, 0) - math.log(len(alive)))


def unit_rows(n: int, d: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d), dim=1)


def shards(features: Tensor, activations: Activations | Tensor, order: list[list[int]]) -> list[Shard]:
    """One shard for each list of image numbers."""
    dense = activations if isinstance(activations, Tensor) else activations.dense()
    return [Shard(torch.tensor(part), features[part], DenseActivations(dense[part])) for part in order]


def scored(similarity: Similarity, parts: list[Shard], texts: Tensor) -> Tensor:
    for part in parts:
        similarity.update(part)
    return similarity.finalize(texts)


def pieces(n: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, n))) for start in range(0, n, size)]


def published(folder: Path, case: str, *arrays: str) -> list[Tensor]:
    golden = np.load(folder / "golden" / "similarity.npz")
    return [torch.from_numpy(golden[f"{case}_{array}"]) for array in arrays]


@pytest.mark.parametrize("name", PUBLISHED_ROUNDING)
@pytest.mark.parametrize(("case", "size"), SHARDINGS)
def test_published_values(shared_data: Path, case: str, name: str, size: int | None) -> None:
    features, texts, activations, expected = published(shared_data, case, *INPUTS, PUBLISHED_NAMES.get(name, name))
    order = pieces(len(features), size or len(features))
    scores = scored(find_similarity(name)(), shards(features, activations, order), texts)
    rounding = PUBLISHED_ROUNDING[name]
    torch.testing.assert_close(scores, expected, rtol=0, atol=rounding)
    best = expected.gather(1, scores.argmax(1, keepdim=True)).flatten()
    assert (best >= expected.amax(1) - rounding).all()


@pytest.mark.parametrize(("case", "size"), SHARDINGS)
def test_rank_reorder_lies_within_the_published_spread(shared_data: Path, case: str, size: int | None) -> None:
    features, texts, activations, mean, spread = published(
        shared_data, case, *INPUTS, "rank_reorder_mean", "rank_reorder_std"
    )
    order = pieces(len(features), size or len(features))
    scores = scored(find_similarity("rank_reorder")(), shards(features, activations, order), texts)
    distance = (scores - mean).abs() / spread
    assert distance.max() < 1
    assert distance.mean() < 0.25  # of 40 calls' mean
    assert torch.equal(scores.argmax(1), mean.argmax(1))


def test_cos_equals_the_dense_formula() -> None:
    features, texts, activations = unit_rows(50, 8), unit_rows(11, 8), torch.randn(50, 5)
    scores = scored(Cos(), shards(features, activations, pieces(50, 13)), texts)
    torch.testing.assert_close(scores.double(), cos_formula(features, texts, activations), rtol=0, atol=2e-6)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("exponent", [-40, -37, -30, -20, -14, -8, 0, 8, 15, 25, 37])
def test_cos_cubed_finds_the_same_labels_at_every_scale(
    exponent: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "gpu":  # whose code runs on a CPU too
        monkeypatch.setattr(CosCubed, "_scores", CosCubed._scores_on_gpu)
    features, texts, activations = unit_rows(60, 8), unit_rows(20, 8), torch.randint(-9, 10, (60, 12)) / 8
    winners = Winners(activations[:, :6], torch.randint(2, (60, 6), dtype=torch.uint8), 2)
    for of in (DenseActivations, lambda values: pool_winners(winners._replace(values=values[:, :6]), "mean")):
        whole, scaled = (
            scored(CosCubed(), [Shard(torch.arange(60), features, of(values))], texts)
            for values in (activations * 8, (activations * 8 * 10.0**exponent).float())
        )
        assert torch.equal(scaled.argmax(1), whole.argmax(1))
        assert scaled.isfinite().all()
        assert exponent < 0 or torch.allclose(scaled, whole, atol=1e-6)


def test_cos_cubed_keeps_the_published_least_norm() -> None:
    features, texts, activations = unit_rows(60, 8), unit_rows(20, 8), torch.randn(60, 5)
    scores = [scored(CosCubed(), shards(features, activations * 10.0**e, pieces(60, 60)), texts) for e in (0, -3, -5)]
    norms = ((activations - activations.mean(0)) ** 3).norm(dim=0)
    torch.testing.assert_close(scores[1], scores[0] * norms[:, None] * 1e-9 / 1e-3, rtol=1e-4, atol=0)
    torch.testing.assert_close(scores[2], scores[1] * 1e-6, rtol=1e-4, atol=0)


def test_cos_cubed_of_activations_far_from_zero() -> None:
    """Their mean must not swallow their deviations from it."""
    features, texts = unit_rows(200, 8), unit_rows(20, 8)
    activations = torch.randn(200, 12) + 1000
    activations[:, 3] = 7
    a = (activations.double() - activations.double().mean(0)) ** 3
    P = features.double() @ texts.double().T
    P = (P - P.mean(0)) ** 3
    expected = (a / a.norm(dim=0).clamp_min(1e-3)).T @ (P / P.norm(dim=0).clamp_min(1e-3))
    scores = scored(CosCubed(), shards(features, activations, pieces(200, 64)), texts)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert (scores[3] == 0).all()


def test_a_neuron_that_is_always_zero_has_no_scores() -> None:
    activations = torch.randn(20, 3)
    activations[:, 1] = 0
    for name in SIMILARITIES:
        scores = scored(find_similarity(name)(), shards(unit_rows(20, 4), activations, pieces(20, 6)), unit_rows(5, 4))
        assert scores.isnan().any(1).tolist() == [False, True, False]
        assert scores[1].isnan().all()


def test_soft_wpmi_takes_only_images_that_were_won() -> None:
    """Few wins, none, negative winners, ties."""
    n, blocks = 700, 4
    features, texts = unit_rows(n, 8), unit_rows(9, 8)
    indices = (torch.rand(n, blocks) < torch.tensor([0.5, 0.02, 0.3, 0.0])).to(torch.uint8)
    winners = Winners((torch.randn(n, blocks) * 4).round() / 4, indices, 2)
    won = torch.zeros(n, 8, dtype=torch.bool).scatter_(1, winners.units(), True)
    assert 0 < won.sum(0)[3] < 100
    expected = soft_wpmi_formula(features, texts, winners.to_dense(), won)
    similarity = SoftWPMI()
    for part in pieces(n, 37):
        pooled = pool_winners(Winners(winners.values[part], indices[part], 2), "mean")
        similarity.update(Shard(torch.tensor(part), features[part], pooled))
    scores = similarity.finalize(texts)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-3, equal_nan=True)  # sums near 400
    assert scores[7].isnan().all()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SIMILARITIES)), seed=st.integers(0, 2**16))
def test_scores_do_not_depend_on_shards_order_or_merges(data: st.DataObject, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    features, texts = unit_rows(23, 6), unit_rows(7, 6)
    activations = (torch.randn(23, 4) * 10.0 ** torch.randint(-6, 6, (23, 1))).bfloat16().float()  # ties and wide range
    make = partial(SIMILARITIES[name], **({"top_k": 5} if name.endswith("wpmi") else {}))
    expected = scored(make(), shards(features, activations, [list(range(23))]), texts)

    images = data.draw(st.permutations(range(23)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 22))))
    parts = [images[start:end] for start, end in zip([0, *cuts], [*cuts, 23], strict=True)]
    accumulators = [make() for _ in range(data.draw(st.integers(1, 3)))]
    for place, part in enumerate(shards(features, activations, parts)):
        accumulators[place % len(accumulators)].update(part)
    first, *others = data.draw(st.permutations(accumulators))
    for other in others:
        first.merge(other)
    assert torch.equal(first.finalize(texts), expected)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_exact_product_counts_numbers_to_a_millionth_of_the_largest(numbers: list[float]) -> None:
    product = ExactProduct()
    for number in numbers:
        product.add(torch.tensor([[number]]), torch.ones(1, 1))
    error = max(map(abs, numbers)) * len(numbers) * 2.0**-20
    assert product.total().item() == pytest.approx(math.fsum(numbers), rel=1e-14, abs=error)


def test_exact_product_leaves_its_arguments_alone() -> None:
    a, x = torch.randn(30, 3, dtype=torch.float64), torch.rand(30, 5, dtype=torch.float64)
    before = a.clone(), x.clone()
    ExactProduct().add(a, x)
    ExactGram().add(x)
    assert torch.equal(a, before[0])
    assert torch.equal(x, before[1])


def test_exact_product_over_more_rows_than_fit_a_float64() -> None:
    a, x = torch.rand(5000, 2), unit_rows(5000, 3)
    product = ExactProduct()
    product.add(a, x)
    torch.testing.assert_close(product.total(), a.double().T @ x.double(), rtol=0, atol=5000 * 2.0**-23)


@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False), st.integers(0, 2**31 - 1)), min_size=1, max_size=20, unique=True
    )
)
def test_packed_numbers_keep_their_order(pairs: list[tuple[float, int]]) -> None:
    values, identities = torch.tensor([v for v, _ in pairs]), torch.tensor([i for _, i in pairs])
    found = [packed for packed in largest(pack(values, identities), len(pairs)) if packed != NONE]
    expected = sorted((pair for pair in pairs if pair[0] != -math.inf), key=lambda pair: (-pair[0], pair[1]))
    assert [tuple(part.item() for part in unpack(packed)) for packed in found] == expected


def test_unknown_similarity_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"similarity must be one of 'cos', 'cos_cubed', .*'wpmi', got 'cosine'"):
        find_similarity("cosine")


def test_nothing_taken_in_is_an_error() -> None:
    for name in SIMILARITIES:
        with pytest.raises(ValueError, match="no shard"):
            find_similarity(name)().finalize(unit_rows(3, 4))


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        SoftWPMI(top_k=0)
