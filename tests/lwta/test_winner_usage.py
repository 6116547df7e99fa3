"""Who wins, counted over batches."""

from __future__ import annotations

import json
import math
import warnings

import pytest
import torch
from torch import nn

from lwta import LWTA, LWTAConv2d, LWTAMlp, functional, usage


def test_against_the_laws_of_one_layer() -> None:
    """A constant input: wins are multinomial with softmax(h), the KL is that of π, and 1/U of the units are active."""
    h = torch.tensor([1.0, 0.0, -1.0, 0.5, 0.5, 0.5])
    pi = torch.softmax(h.view(2, 3).double(), 1)
    layer = LWTA(3, track_kl=False)
    state = torch.get_rng_state()
    n = 20_000
    (found,) = usage(layer, [h.expand(n // 2, 6)] * 2).layers
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.wins.sum(1) == n).all()
    assert ((found.shares - pi).abs() <= 5 * (pi * (1 - pi) / n).sqrt()).all()
    assert found.kl == pytest.approx((pi * pi.log()).sum(1).add(math.log(3)).mean().item(), rel=1e-5)
    assert found.active == pytest.approx((2 - pi[0, 1].item()) / 6, abs=0.01)  # a winner that answers 0 is not active
    expected = torch.special.entr(found.shares).sum(1) / math.log(3)
    assert torch.allclose(found.entropy, expected)
    assert layer.training
    assert not layer.track_kl
    assert layer.kl is None
    assert not layer._winners_hooks
    assert not layer._forward_hooks


def test_every_kind_of_layer_and_of_batch() -> None:
    model = nn.Sequential(LWTAConv2d(3, 8, 3, competitors=4), nn.Flatten(1), LWTAMlp(8 * 9, 24, 5, competitors=12))
    x = torch.randn(10, 3, 5, 5)
    found = usage(model, [x, (x, torch.zeros(10)), [x]])
    assert [(layer.layer, tuple(layer.wins.shape)) for layer in found.layers] == [("0", (2, 4)), ("2.act", (2, 12))]
    assert [layer.wins.sum(1).tolist() for layer in found.layers] == [[270, 270], [30, 30]]
    assert [layer.active for layer in found.layers] == pytest.approx([1 / 4, 1 / 12])
    assert found.active == pytest.approx((1 / 4 + 1 / 12) / 2)
    assert usage(model, [x] * 3, batches=2).layers[0].wins.sum() == 360


def test_dead_units_and_collapsed_blocks_are_named() -> None:
    h = torch.tensor([5.0, -100.0, 0.3, 0.2]).expand(50, 4)
    with pytest.warns(RuntimeWarning, match=r"one unit always wins in 0 \(1 of 2 blocks\)"):
        found = usage(nn.Sequential(LWTA(2)), [h])
    assert (found.layers[0].dead, found.layers[0].collapsed, found.dead, found.units) == ([1], [0], 1, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert usage(nn.Sequential(LWTA(2)), [h[:19]]).layers[0].collapsed == []  # too little to judge by


def test_winners_are_those_of_the_layers_mode() -> None:
    h = torch.randn(200, 6)
    layer = LWTA(3, eval_mode="argmax")
    indices = functional.winners(h, 3, mode="argmax").indices.long()
    expected = torch.stack([(indices == u).sum(0) for u in range(3)], 1)
    assert torch.equal(usage(layer, [h]).layers[0].wins, expected)


def test_table_and_dictionary() -> None:
    found = usage(nn.Sequential(nn.Linear(4, 8), LWTA(2)), [torch.randn(100, 4)])
    header, row = str(found).splitlines()
    assert header.split() == ["layer", "U", "blocks", "active", "entropy", "lowest", "dead", "collapsed", "KL"]
    assert row.split()[:4] == ["1", "2", "4", "50.0%"]
    assert json.loads(json.dumps(found.to_dict()))["1"]["wins"] == found.layers[0].wins.tolist()


def test_errors() -> None:
    with pytest.raises(ValueError, match="has none"):
        usage(nn.Linear(2, 2), [torch.randn(1, 2)])
    with pytest.raises(ValueError, match="at least one batch"):
        usage(LWTA(2), [])
    with pytest.raises(TypeError, match="got dict"):
        usage(LWTA(2), [{"image": torch.randn(1, 2)}])
