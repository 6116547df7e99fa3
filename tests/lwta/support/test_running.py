"""Networks that are evaluated, and left as they were."""

from __future__ import annotations

import torch
from torch import nn

from lwta.support.running import evaluating


def test_every_module_gets_its_mode_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[0].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model) as device:
        assert not any(module.training for module in model.modules())
        assert device == torch.device("cpu")
    assert [module.training for module in model.modules()] == before
