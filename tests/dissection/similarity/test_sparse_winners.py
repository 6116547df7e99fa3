"""Every similarity of sparse winners against its formula in float64: few wins, none, negative ones, ties, constants."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lwta.dissection.recording.activations import DenseActivations, WinnerActivations
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import JSD, SIMILARITIES, CosCubed, RankReorder, SoftWPMI
from lwta.dissection.similarity import cos_cubed as cos_cubed_module
from lwta.dissection.similarity import pmi as pmi_module
from lwta.dissection.similarity.pmi import TopImagesPMI
from lwta.kernels.operations.concept_log_p import launch as launch_log_p
from lwta.kernels.operations.concept_logsumexp import launch as launch_logsumexp
from lwta.kernels.operations.concept_similarity import launch as launch_similarity
from ptx import executing
from tests.support.similarities import expected

N, M, D = 700, 9, 8
NEVER, ONCE, EQUAL, NEGATIVE, ALWAYS = 3, 4, 5, 6, 7


def unit_rows(n: int, d: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d) + 0.5, dim=1)


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings of images and concepts, activations (N, D) and which of them were won; values with many ties."""
    won = torch.rand(N, D) < torch.tensor([0.5, 0.1, 0.02, 0, 0, 0.2, 0.3, 1])
    won[17, ONCE] = True
    values = (torch.randn(N, D) * 4).round() / 4
    values[17, ONCE], values[:, EQUAL], values[:, NEGATIVE] = 0.5, 2, -values[:, NEGATIVE].abs() - 0.25
    return unit_rows(N, 8), unit_rows(M, 8), values * won, won


def shards(features: Tensor, activations: Tensor, won: Tensor, size: int) -> list[Shard]:
    parts = []
    for start in range(0, N, size):
        part = slice(start, start + size)
        mask, A = won[part], activations[part]
        units = mask.nonzero()[:, 1].int()
        winners = WinnerActivations(A[mask], units, torch.ones(len(units)), mask.sum(1), D, 1)
        parts.append(Shard(torch.arange(N)[part], features[part], winners))
    return parts


TOLERANCES = {"wpmi": 1e-3, "soft_wpmi": 3e-3, "peak": 2e-4}  # sums near 400, of one logarithm at worst


def check_formula(name: str, device: torch.device) -> None:
    features, texts, activations, won = case()
    assert 0 < won[:, 2].sum() < 28
    similarity = SIMILARITIES[name]()
    for shard in shards(features, activations, won, 37):
        similarity.update(shard)
    scores = similarity.finalize(texts.to(device)).double()
    assert scores.device.type == "cpu"
    wanted = expected(name, features, texts, activations, won)
    torch.testing.assert_close(scores, wanted, rtol=1e-6, atol=TOLERANCES.get(name, 5e-6), equal_nan=True)
    assert scores[NEVER].isnan().all()
    assert scores.isnan().any(1).nonzero().flatten().tolist() == [NEVER] + [NEGATIVE] * (name == "jsd")


@pytest.mark.parametrize("name", SIMILARITIES)
def test_winners_equal_the_formula(name: str) -> None:
    check_formula(name, torch.device("cpu"))


@pytest.mark.parametrize("name", ["cos_cubed", "wpmi", "soft_wpmi"])
@pytest.mark.parametrize("numbers", [cos_cubed_module.WEIGHTS, 3 * N])
def test_kernels_of_the_gpu_are_given_what_the_formula_takes(
    name: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU their operations are computed by the definitions, which tests/kernels compares the kernels with."""
    monkeypatch.setattr(cos_cubed_module, "WEIGHTS", numbers)
    monkeypatch.setattr(CosCubed, "_scores", CosCubed._scores_on_gpu)
    monkeypatch.setattr(TopImagesPMI, "_log_p", TopImagesPMI._log_p_on_gpu)
    check_formula(name, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels are executed on the CPU only without a GPU")
@pytest.mark.parametrize("name", ["cos_cubed", "wpmi", "soft_wpmi"])
def test_kernels_give_the_formula(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CosCubed, "_scores", CosCubed._scores_on_gpu)
    monkeypatch.setattr(cos_cubed_module, "concept_similarity", launch_similarity)
    monkeypatch.setattr(TopImagesPMI, "_log_p", TopImagesPMI._log_p_on_gpu)
    monkeypatch.setattr(pmi_module, "concept_logsumexp", launch_logsumexp)
    monkeypatch.setattr(pmi_module, "concept_log_p", launch_log_p)
    with executing("sm_90"):
        check_formula(name, torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", SIMILARITIES)
def test_on_a_gpu_winners_equal_the_formula(name: str) -> None:
    check_formula(name, torch.device("cuda"))


@pytest.mark.parametrize("name", ["cos", "cos_cubed", "jsd", "correlation", "specific", "linear"])
def test_losing_is_an_answer_of_zero(name: str) -> None:
    features, texts, activations, won = case()
    sparse, dense = SIMILARITIES[name](), SIMILARITIES[name]()
    for shard in shards(features, activations, won, N):
        sparse.update(shard)
    dense.update(Shard(torch.arange(N), features, DenseActivations(activations)))
    expected = dense.finalize(texts)
    torch.testing.assert_close(sparse.finalize(texts), expected, rtol=0, atol=5e-6, equal_nan=True)


def test_a_concept_equally_similar_to_all_images_explains_nothing() -> None:
    """Centred, it is 0; where images are ranked by it, they stay in the order of their keys."""
    features = torch.cat([unit_rows(N, 7), torch.ones(N, 1)], dim=1) / math.sqrt(2)
    texts = torch.eye(8)
    activations = torch.arange(float(N))[:, None]
    for name, worst in (("cos_cubed", 0.0), ("rank_reorder", None)):
        similarity = SIMILARITIES[name]()
        similarity.update(Shard(torch.arange(N), features, DenseActivations(activations)))
        scores = similarity.finalize(texts)[0]
        assert scores.isfinite().all()
        if worst is None:
            assert scores[7] < -2 / 0.5**0.25  # exactly reversed, against 1 for a random order
        else:
            assert scores[7].abs() < 1e-3


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"top_fraction must be within \(0, 1\], got 0"):
        RankReorder(top_fraction=0)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        JSD(temperature=0)
    with pytest.raises(ValueError, match=r"p_end must be within \(0, 1\), got 1"):
        SoftWPMI(p_end=1)
