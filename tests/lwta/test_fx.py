"""Networks with competition under `torch.fx`: symbolic tracing, feature extraction."""

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from lwta import LWTA, LWTAConv2d, LWTALinear, LWTAMlp, competitions, convert, functional, set_eval_mode


def _network() -> nn.Sequential:
    return nn.Sequential(
        LWTAConv2d(3, 8, 3, competitors=4),
        nn.Flatten(),
        LWTALinear(72, 16, 4),
        LWTAMlp(16, 24, competitors=12),
        LWTA(8),
    )


def _seeded(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    return model(x)


@pytest.mark.parametrize("training", [True, False])
def test_a_traced_network_equals_its_own_under_the_same_seed(training: bool) -> None:
    model, x = _network().train(training), torch.randn(4, 3, 5, 5)
    traced = fx.symbolic_trace(model)
    torch.testing.assert_close(_seeded(traced, x), _seeded(model, x))


def test_a_traced_network_draws_winners_anew_and_follows_its_settings() -> None:
    traced, x = fx.symbolic_trace(_network().eval()), torch.randn(50, 3, 5, 5)
    assert not torch.equal(traced(x), traced(x))
    assert len(list(competitions(traced))) == 4
    set_eval_mode(traced, "argmax")
    assert torch.equal(traced(x), traced(x))


def test_a_traced_layer_calls_its_hooks_and_trains() -> None:
    model, x = nn.Sequential(nn.Linear(8, 16), LWTA(4, track_kl=True)), torch.randn(3, 8)
    seen: list[torch.Size] = []
    model[1].register_winners_hook(lambda _, winners: seen.append(winners.values.shape))
    traced = fx.symbolic_trace(model)
    traced(x).sum().backward()
    assert seen == [(3, 4)]
    assert model[0].weight.grad is not None
    assert traced.get_submodule("1").kl is not None


def test_features_of_a_converted_residual_network() -> None:
    model = convert(torchvision.models.resnet18(num_classes=4), 8).eval()
    x = torch.randn(2, 3, 64, 64)
    nodes = {"layer1.0.relu.0": "first", "layer1.0.relu.1": "second", "layer3": "stage", "fc": "logits"}
    extractor = create_feature_extractor(model, nodes)
    features = _seeded(extractor, x)
    torch.testing.assert_close(features["logits"], _seeded(model, x))
    for name in ("first", "second"):
        active = (features[name].unflatten(1, (-1, 8)) != 0).sum(2)
        assert (active <= 1).all()
    assert features["stage"].shape == (2, 256, 4, 4)
    assert not torch.equal(extractor(x)["logits"], extractor(x)["logits"])
    assert not torch.equal(extractor.train()(x)["logits"], extractor.eval()(x)["logits"])


def test_the_parts_of_a_perceptron_are_features() -> None:
    mlp = LWTAMlp(8, 24, competitors=12, eval_mode="argmax").eval()
    x = torch.randn(3, 8)
    between = create_feature_extractor(nn.Sequential(mlp).eval(), ["0.act"])(x)["0.act"]
    torch.testing.assert_close(between, mlp.act(mlp.fc1(x)))


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        winners = functional.winners(x, 4)
        y = functional.winners_linear(winners, self.weight)
        return y.sum() + functional.lwta(x, 4).sum() + functional.kl_to_uniform(x, 4) + functional.expected(x, 2).mean()


def test_operations_are_recorded_as_calls_that_draw_anew() -> None:
    model, x = _Functional(), torch.randn(20, 8)
    traced = fx.symbolic_trace(model)
    torch.testing.assert_close(_seeded(traced, x), _seeded(model, x))
    assert traced(x) != traced(x)
