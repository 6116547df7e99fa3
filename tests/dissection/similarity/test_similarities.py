"""Similarities against the formulas written out densely, the published values, and themselves in pieces."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.published import FORMULAS
from lwta import Winners
from lwta.dissection.recording.activations import DenseActivations, pool_winners
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import SIMILARITIES, FromMoments, SoftWPMI, find_similarity
from tests.support.similarities import expected, pieces, scored, shards, unit_rows

SHARDINGS = [("small", 1), ("small", 7), ("small", 64), ("small", None), ("medium", 64), ("medium", None)]
INPUTS = ("image_features", "text_features", "activations")
PUBLISHED_NAMES = {"cos": "cos_similarity", "cos_cubed": "cos_similarity_cubed"}
PUBLISHED_ROUNDING = {"cos": 5e-6, "cos_cubed": 5e-6, "wpmi": 2e-4, "soft_wpmi": 5e-4}  # sums of logarithms near 400
"""What float32 makes of the published formulas."""


def published(folder: Path, case: str, *arrays: str) -> list[Tensor]:
    golden = np.load(folder / "golden" / "similarity.npz")
    return [torch.from_numpy(golden[f"{case}_{array}"]) for array in arrays]


@pytest.mark.parametrize("name", PUBLISHED_ROUNDING)
@pytest.mark.parametrize(("case", "size"), SHARDINGS)
def test_published_values(shared_data: Path, case: str, name: str, size: int | None) -> None:
    features, texts, activations, golden = published(shared_data, case, *INPUTS, PUBLISHED_NAMES.get(name, name))
    order = pieces(len(features), size or len(features))
    scores = scored(SIMILARITIES[name](), shards(features, activations, order), texts)
    rounding = PUBLISHED_ROUNDING[name]
    torch.testing.assert_close(scores, golden, rtol=0, atol=rounding)
    best = golden.gather(1, scores.argmax(1, keepdim=True)).flatten()
    assert (best >= golden.amax(1) - rounding).all()


@pytest.mark.parametrize(("case", "size"), SHARDINGS)
def test_rank_reorder_lies_within_the_published_spread(shared_data: Path, case: str, size: int | None) -> None:
    features, texts, activations, mean, spread = published(
        shared_data, case, *INPUTS, "rank_reorder_mean", "rank_reorder_std"
    )
    order = pieces(len(features), size or len(features))
    scores = scored(SIMILARITIES["rank_reorder"](), shards(features, activations, order), texts)
    distance = (scores - mean).abs() / spread
    assert distance.max() < 1
    assert distance.mean() < 0.25  # of 40 calls' mean
    assert torch.equal(scores.argmax(1), mean.argmax(1))


def case(n: int = 600, concepts: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of images and concepts, all somewhat alike, and activations without competition, some of them awkward.

    From neuron 6 on: rounded, cut off at 0, constant, above 0 for one image, below 0, always 0.
    """
    features, texts = (torch.nn.functional.normalize(torch.randn(rows, 16) + 1, dim=1) for rows in (n, concepts))
    activations = torch.randn(n, 12)
    activations[:, 6] = (activations[:, 6] * 2).round() / 2
    activations[:, 7].clamp_min_(0)
    activations[:, 8] = 3
    activations[:, 9] = torch.arange(n) == 17
    activations[:, 10] = -activations[:, 10].abs()
    activations[:, 11] = 0
    return features, texts, activations


TOLERANCES = {"wpmi": 1e-3, "soft_wpmi": 3e-3, "peak": 2e-4}  # sums near 400, of one logarithm at worst


@pytest.mark.parametrize("size", [1, 7, 64, None])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_scores_are_those_of_the_formula(name: str, size: int | None) -> None:
    features, texts, activations = case()
    scores = scored(SIMILARITIES[name](), shards(features, activations, pieces(600, size or 600)), texts)
    won = (activations != 0).any(0).expand_as(activations)
    wanted = expected(name, features, texts, activations, won)
    torch.testing.assert_close(scores.double(), wanted, rtol=1e-6, atol=TOLERANCES.get(name, 5e-6), equal_nan=True)
    none = {"jsd": [10, 11], "correlation": [8, 11], "specific": [8, 11], "linear": [8, 11]}
    dead = none.get(name, [11])  # "jsd" asks where a neuron is above 0, some how it varies
    assert scores.isnan().any(1).nonzero().flatten().tolist() == dead


@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula_is_the_published_one_where_that_is_defined(name: str) -> None:
    features, texts, activations = (part.double() for part in case())
    activations = activations[:, :6]
    found = FORMULAS[name](features, texts, activations)
    if name == "rank_reorder":  # the error of five random orders is below the line
        found = 1 / torch.stack([1 / FORMULAS[name](features, texts, activations) for _ in range(400)]).mean(0)
    wanted = expected(name, features, texts, activations, torch.ones_like(activations).bool())
    torch.testing.assert_close(found, wanted, rtol=0.02 if name == "rank_reorder" else 1e-9, atol=1e-9)


def test_a_neuron_that_is_always_zero_has_no_scores() -> None:
    activations = torch.randn(20, 3)
    activations[:, 1] = 0
    for name in SIMILARITIES:
        scores = scored(SIMILARITIES[name](), shards(unit_rows(20, 4), activations, pieces(20, 6)), unit_rows(5, 4))
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
    wanted = expected("soft_wpmi", features, texts, winners.to_dense(), won)
    similarity = SoftWPMI()
    for part in pieces(n, 37):
        pooled = pool_winners(Winners(winners.values[part], indices[part], 2), "mean")
        similarity.update(Shard(torch.tensor(part), features[part], pooled))
    scores = similarity.finalize(texts)
    torch.testing.assert_close(scores.double(), wanted, rtol=0, atol=1e-3, equal_nan=True)  # sums near 400
    assert scores[7].isnan().all()


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    name=st.sampled_from(sorted(SIMILARITIES)),
    competitors=st.sampled_from([None, 2]),
    seed=st.integers(0, 2**16),
)
def test_scores_do_not_depend_on_shards_order_or_merges(
    data: st.DataObject, name: str, competitors: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    features, texts = unit_rows(23, 6), unit_rows(7, 6)
    values = (torch.randn(23, 4) * 10.0 ** torch.randint(-6, 6, (23, 1))).bfloat16().float()  # ties and wide range
    indices = torch.randint(2, (23, 4), dtype=torch.uint8)
    make = partial(SIMILARITIES[name], **({"top_k": 5} if name.endswith("wpmi") else {}))

    def shard(part: list[int]) -> Shard:
        mine = values[part]
        winners = Winners(mine, indices[part], 2)
        activations = DenseActivations(mine) if competitors is None else pool_winners(winners, "mean")
        return Shard(torch.tensor(part), features[part], activations)

    whole = make()
    whole.update(shard(list(range(23))))

    images = data.draw(st.permutations(range(23)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 22))))
    parts = [images[start:end] for start, end in zip([0, *cuts], [*cuts, 23], strict=True)]
    accumulators = [make() for _ in range(data.draw(st.integers(1, 3)))]
    for place, part in enumerate(parts):
        accumulators[place % len(accumulators)].update(shard(part))
    first, *others = data.draw(st.permutations(accumulators))
    for other in others:
        first.merge(other)
    assert torch.equal(first.finalize(texts).nan_to_num(), whole.finalize(texts).nan_to_num())
    if isinstance(whole, FromMoments) and isinstance(first, FromMoments):
        for found, wanted in zip(first.explain(texts), whole.explain(texts), strict=True):
            assert torch.equal(found, wanted)


def test_unknown_similarity_names_the_choices() -> None:
    with pytest.raises(
        ValueError, match=r"similarity must be one of 'auto', 'correlation', 'cos', .*'wpmi', got 'cosine'"
    ):
        find_similarity("cosine")


def test_nothing_taken_in_is_an_error() -> None:
    for name in SIMILARITIES:
        with pytest.raises(ValueError, match=r"nothing to (score|label): no (shard|image) was taken in"):
            SIMILARITIES[name]().finalize(unit_rows(3, 4))


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        SoftWPMI(top_k=0)
