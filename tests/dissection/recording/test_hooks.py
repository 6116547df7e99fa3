"""Listening to layers, and leaving networks and generators as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lwta import LWTA
from lwta.dissection.recording.activations import Activations
from lwta.dissection.recording.hooks import find_layers, tapped
from tests.support.worlds import ColourNetwork

KEYS = ["a", "b"]


def record(model: nn.Module, layer: str, x: Tensor, pool: str = "auto") -> Activations:
    with tapped(model, layer, pool) as (tap,):  # type: ignore[arg-type]
        model(x)
    return tap.take(KEYS)


def test_winners_come_from_the_layer() -> None:
    """The unit "nothing" wins with -1 over a blue of -2, and is no loser for being below 0."""
    activations = record(ColourNetwork().eval(), "act", torch.zeros(2, 3, 4, 4))
    assert activations.dense(absent=torch.nan)[0].tolist() == pytest.approx([0, torch.nan, torch.nan, -1], nan_ok=True)
    assert activations.wins().tolist() == [2, 0, 0, 2]


def test_other_layers_are_recorded_densely() -> None:
    model, x = ColourNetwork(), torch.rand(2, 3, 4, 4)
    activations = record(model, "mix", x)
    torch.testing.assert_close(activations.dense(), model.mix(x.mean((2, 3), keepdim=True)).flatten(1).detach())
    assert activations.wins() is None


class Tokens(nn.Module):
    """Images to a class token and one token for each row."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.act = LWTA(2)
        if class_token:
            self.cls_token = nn.Parameter(torch.full((1, 1, 4), 9.0))

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        return self.act(torch.cat([self.cls_token.expand(len(x), -1, -1), rows], 1) if self.has_class_token else rows)

    @property
    def has_class_token(self) -> bool:
        return hasattr(self, "cls_token")


def test_auto_pooling_sees_whether_there_is_a_class_token() -> None:
    x = torch.randn(2, 3, 4, 4)
    with_token = record(Tokens(True), "act", x)
    assert with_token.values.tolist() == [9] * 4  # type: ignore[union-attr]
    without = record(Tokens(False), "act", x)
    assert set(without.shares.tolist()) <= {0.25, 0.5, 0.75, 1}  # type: ignore[union-attr]
    assert len(without.values) > 4


def test_unknown_layers_get_close_matches() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), LWTA(2)), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'0\.2' is none; did you mean '0\.[01]' or '0\.[01]'"):
        find_layers(model, ["1", "0.2"])
    with pytest.raises(ValueError, match=r"'classifier' is none; the model has 0, 0\.0, 0\.1"):
        find_layers(model, "classifier")
    with pytest.raises(ValueError, match="at least one layer"):
        find_layers(model, [])


class Repeated(nn.Module):
    """Uses one activation twice and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.unused = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.act(x))


def test_layers_that_do_not_run_once() -> None:
    with pytest.raises(ValueError, match=r"'act' ran 2 times.*lwta\.convert gives each call"):
        record(Repeated(), "act", torch.randn(2, 4))
    with pytest.raises(ValueError, match="'unused' ran 0 times"):
        record(Repeated(), "unused", torch.randn(2, 4))


def test_outputs_that_cannot_be_dissected() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.LSTM(8, 3))
    with pytest.raises(
        TypeError, match=r"layer '0' must give a tensor of 2, 3 or 4 dimensions to be dissected, not shape \(8,\)"
    ):
        record(model[:1], "0", torch.randn(2, 4))
    with pytest.raises(
        TypeError, match="layer '1' must give a tensor of 2, 3 or 4 dimensions to be dissected, not tuple"
    ):
        record(nn.Sequential(nn.Identity(), nn.LSTM(8, 3)), "1", torch.randn(2, 8))
    with pytest.raises(ValueError, match="layer '0' gave a value that is not finite on image 'b'"):
        record(nn.Sequential(nn.Identity()), "0", torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(ValueError, match="layer '0' gave 1 rows for 2 images"):
        record(nn.Sequential(nn.Identity()), "0", torch.ones(1, 3))


def test_hooks_are_taken_off() -> None:
    model = ColourNetwork()
    with pytest.raises(RuntimeError), tapped(model, ["act", "head"], "auto"):
        raise RuntimeError
    assert not model.act._winners_hooks
    assert not model.head._forward_hooks
