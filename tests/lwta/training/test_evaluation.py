"""Accuracy and loss over a data set."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lwta import LWTA, competitions, set_eval_mode
from lwta.training import evaluate


def test_evaluate_against_definitions() -> None:
    logits = torch.randn(50, 8)
    targets = torch.randint(8, (50,))
    found = evaluate(nn.Identity(), [(logits[:30], targets[:30]), (logits[30:], targets[30:])])
    order = logits.argsort(1, descending=True)
    assert found.top1 == pytest.approx((order[:, 0] == targets).double().mean().item())
    assert found.top5 == pytest.approx((order[:, :5] == targets[:, None]).any(1).double().mean().item())
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)
    assert found.images == 50


def test_evaluate_draws_and_modes() -> None:
    """Averaging draws the expected output nearer; a seed repeats it; the layers keep their mode."""
    model = LWTA(4)
    x, targets = torch.randn(400, 8), torch.randint(8, (400,))
    expected = torch.softmax(x.view(-1, 4), 1).mul(x.view(-1, 4)).view(-1, 8)
    limit = nn.functional.cross_entropy(expected, targets).item()
    losses = [evaluate(model, [(x, targets)], draws=draws).loss for draws in (1, 6, 300)]
    assert abs(losses[2] - limit) < abs(losses[1] - limit) < abs(losses[0] - limit)
    assert evaluate(model, [(x, targets)], seed=1) == evaluate(model, [(x, targets)], seed=1)
    set_eval_mode(model, "sample")
    argmax = evaluate(model, [(x, targets)], mode="argmax")
    assert [layer.eval_mode for _, layer in competitions(model)] == ["sample"]
    set_eval_mode(model, "argmax")
    assert argmax.loss == pytest.approx(nn.functional.cross_entropy(model.eval()(x), targets).item(), rel=1e-6)
    with pytest.raises(ValueError, match="at least one batch"):
        evaluate(model, [])
