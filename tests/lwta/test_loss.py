"""Cross-entropy and the divergence of the competitions."""

import pytest
import torch
from torch import nn

from lwta import LWTA, ELBOLoss, kl_divergence


def network(track_kl: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), LWTA(4, track_kl=track_kl), nn.Linear(8, 6), LWTA(2, track_kl=track_kl))


def test_it_is_the_sum_of_its_parts() -> None:
    model, x, y = network(True), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 4])
    logits = model(x)
    log_p = torch.log_softmax(logits.double(), 1)
    smoothed = torch.full((5, 6), 0.1 / 6, dtype=torch.float64)
    smoothed[torch.arange(5), y] += 0.9
    expected = -(smoothed * log_p).sum(1).mean() + 0.3 * kl_divergence(model).double()
    loss = ELBOLoss(model, kl_weight=0.3, label_smoothing=0.1)
    assert loss(logits, y).item() == pytest.approx(expected.item(), rel=1e-6)
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("kl_weight", [0.5, 2.0])
def test_the_divergence_pulls_the_competition_towards_uniform(kl_weight: float) -> None:
    x, y = torch.randn(64, 4), torch.randint(3, (64,))

    def trained(kl_weight: float) -> float:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), LWTA(4, track_kl=True), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(model.parameters(), 0.2)
        loss = ELBOLoss(model, kl_weight=kl_weight)
        for _ in range(60):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        model(x)
        return ELBOLoss(model, kl_weight=1.0)(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)).item()

    assert trained(kl_weight) < 0.7 * trained(0.0)


def test_errors() -> None:
    with pytest.raises(ValueError, match="'1' does not have it"):
        ELBOLoss(network(False), kl_weight=0.1)
    with pytest.raises(ValueError, match=r"kl_weight must be at least 0, got -0\.1"):
        ELBOLoss(network(True), kl_weight=-0.1)
    ELBOLoss(nn.Linear(2, 2))(torch.randn(1, 2), torch.tensor([1]))
