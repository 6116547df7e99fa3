"""Layers: drop-in for what they replace, winners from the competition itself."""

import copy
import inspect
import io
from dataclasses import asdict
from functools import partial

import pytest
import timm
import torch
from timm.layers import Mlp
from torch import nn

from lwta import LWTA, Competition, LWTAConv2d, LWTALinear, LWTAMlp, Winners, convert, functional
from lwta.competition import CompetitionKeywords, CompetitionSettings


def _active_share(y: torch.Tensor) -> float:
    return (y != 0).double().mean().item()


@pytest.mark.parametrize("competitors", [2, 3, 8, 12, 24])
def test_one_in_u_is_active(competitors: int) -> None:
    assert _active_share(LWTA(competitors)(torch.randn(7, 48))) == pytest.approx(1 / competitors)
    assert _active_share(LWTA(competitors)(torch.randn(2, 48, 3, 3))) == pytest.approx(1 / competitors)


def test_built_as_an_activation_layer() -> None:
    for layer in (LWTA(), LWTA(inplace=True)):
        x = torch.randn(2, 8)
        before = x.clone()
        layer(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (lambda: LWTALinear(6, 8, 4), lambda: nn.Linear(6, 8), (3, 6)),
        (lambda: LWTALinear(6, 8, 4, bias=False), lambda: nn.Linear(6, 8, bias=False), (3, 5, 6)),
        (lambda: LWTALinear(6, 8, 4), lambda: nn.Linear(6, 8), (2, 4, 4, 6)),
        (
            lambda: LWTAConv2d(3, 8, 3, stride=2, padding=1, competitors=4),
            lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1),
            (2, 3, 9, 9),
        ),
        (lambda: LWTAConv2d(4, 8, 1, groups=2, competitors=2), lambda: nn.Conv2d(4, 8, 1, groups=2), (2, 4, 5, 5)),
    ],
)
def test_same_parameters_and_responses_as_the_plain_layer(ours, theirs, shape) -> None:  # type: ignore[no-untyped-def]
    layer, plain = ours(), theirs()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(shape)
    y, h = layer(x), plain(x)
    assert y.shape == h.shape
    assert torch.allclose(y[y != 0], h[y != 0])
    assert _active_share(y) == pytest.approx(1 / layer.competitors)


def test_mlp_has_the_keys_of_timm() -> None:
    ours, theirs = LWTAMlp(16, 32, competitors=8, drop=0.1), Mlp(16, 32, drop=0.1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert LWTAMlp(16).fc2.out_features == 16
    theirs.act = nn.Identity()
    ours.act = LWTA(1)
    x = torch.randn(2, 5, 16)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LWTA(0), "competitors must be at least 1"),
        (lambda: LWTA(2, temperature=0), "temperature must be positive"),
        (lambda: LWTA(2, eval_mode="mean"), "eval_mode must be one of 'sample', 'argmax', 'expected', got 'mean'"),
        (lambda: LWTALinear(4, 10, 4), "competitors must divide out_features: got competitors=4, out_features=10"),
        (lambda: LWTAConv2d(3, 10, 3, competitors=4), "competitors must divide out_channels"),
        (lambda: LWTAMlp(16, 30, competitors=4), "competitors must divide hidden_features"),
    ],
)
def test_bad_settings(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build()


def test_eval_mode() -> None:
    x = torch.randn(100, 8)
    layer = LWTA(4, eval_mode="argmax").eval()
    assert torch.equal(layer(x), layer(x))
    blocks = x.view(100, 2, 4)
    expected = torch.where(blocks == blocks.amax(-1, keepdim=True), blocks, 0.0).view(100, 8)
    assert torch.equal(layer(x), expected)
    assert not torch.equal(layer.train()(x), layer(x))
    assert not torch.equal(LWTA(4).eval()(x), LWTA(4).eval()(x))


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (2, 8, 3, 3)])
def test_hook_sees_the_winners_of_that_forward(shape: tuple[int, ...]) -> None:
    layer = LWTA(4)
    seen: list[Winners] = []
    handle = layer.register_winners_hook(lambda _, winners: seen.append(winners))
    y = layer(torch.randn(shape) - 3)  # most winners are negative
    channels_last = y.movedim(1, -1) if len(shape) == 4 else y
    assert torch.equal(seen[0].to_dense(), channels_last)
    handle.remove()
    layer(torch.randn(shape))
    assert len(seen) == 1


def test_hook_does_not_change_the_draw() -> None:
    layer, x = LWTA(4), torch.randn(50, 8)
    torch.manual_seed(3)
    plain = layer(x)
    layer.register_winners_hook(lambda *_: None)
    torch.manual_seed(3)
    assert torch.equal(layer(x), plain)


LAYOUTS = {
    "rows": lambda x: x[:, :, 0, 0].contiguous(),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).contiguous(),
    "NCHW": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: x[..., ::2, 1:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("competitors", [2, 3, 12])
def test_watched_layers_compete_once_and_give_the_same(
    layout: str, mode: str, dtype: torch.dtype, competitors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = LAYOUTS[layout](torch.randn(3, 24, 6, 5).to(dtype))
    x[0, 0] = torch.nan
    x[(1,) * x.ndim] = torch.inf
    layer = LWTA(competitors, eval_mode=mode).eval()  # type: ignore[arg-type]
    torch.manual_seed(3)
    plain = layer(x)
    layer.register_winners_hook(lambda *_: None)
    monkeypatch.setattr(functional, "lwta", lambda *_, **__: pytest.fail("a second competition"))
    torch.manual_seed(3)
    watched = layer(x)
    assert torch.equal(watched.nan_to_num(7), plain.nan_to_num(7))
    assert torch.equal(watched.isnan(), plain.isnan())
    assert (watched.dtype, watched.stride()) == (plain.dtype, plain.stride())


@pytest.mark.parametrize("mode", ["sample", "argmax"])
def test_gradients_of_watched_layers_are_straight_through(mode: str) -> None:
    layer, x = LWTA(4, eval_mode=mode).eval(), torch.randn(2, 8, 3, 3, requires_grad=True)  # type: ignore[arg-type]
    gradients = []
    for _ in range(2):
        torch.manual_seed(3)
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
        gradients.append(gradient)
        layer.register_winners_hook(lambda *_: None)
    assert torch.equal(*gradients)
    assert (gradients[0] != 0).all()  # the losers learn too


def test_copies_and_pickles_after_a_forward() -> None:
    model = nn.Sequential(nn.Linear(4, 8), LWTA(2, track_kl=True))
    model[1].register_winners_hook(lambda *_: None)  # a lambda, which cannot be pickled
    model(torch.randn(3, 4))
    copied = copy.deepcopy(model)
    assert copied[1].kl is None
    torch.save(model, buffer := io.BytesIO())
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    loaded(torch.randn(3, 4)).sum().backward()
    assert isinstance(loaded[1], Competition)


def test_repr_names_what_is_not_default() -> None:
    assert repr(LWTA(8)) == "LWTA(competitors=8)"
    assert repr(LWTALinear(4, 8, 2, temperature=0.5)) == (
        "LWTALinear(in_features=4, out_features=8, bias=True, competitors=2, temperature=0.5)"
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda **settings: LWTA(2, **settings),
        lambda **settings: LWTALinear(4, 8, 2, **settings),
        lambda **settings: LWTAConv2d(4, 8, 1, competitors=2, **settings),
        lambda **settings: LWTAMlp(4, 8, competitors=2, **settings).act,
        lambda **settings: convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), 2, **settings)[1],
    ],
)
def test_every_layer_takes_the_settings_of_a_competition(build) -> None:  # type: ignore[no-untyped-def]
    settings = CompetitionSettings(temperature=0.5, eval_mode="argmax", dim=1, track_kl=True)
    layer = build(**asdict(settings))
    assert {name: getattr(layer, name) for name in asdict(settings)} == asdict(settings)
    assert repr(layer).endswith("competitors=2, temperature=0.5, eval_mode='argmax', dim=1, track_kl=True)")
    for name, value in asdict(CompetitionSettings(dim=-1)).items():
        setattr(layer, name, value)
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        build(temperature=1e-45)
    with pytest.raises(ValueError, match="eval_mode must be one of"):
        build(eval_mode="mean")


def test_lwta_spells_out_all_settings_with_their_defaults() -> None:
    parameters = inspect.signature(LWTA).parameters
    defaults = asdict(CompetitionSettings())
    assert {name: parameters[name].default for name in defaults} == defaults
    assert list(defaults) == list(CompetitionKeywords.__annotations__)


def test_only_an_activation_layer_takes_inplace() -> None:
    assert isinstance(LWTA(inplace=True), LWTA)
    for build in (lambda **k: LWTALinear(4, 8, **k), lambda **k: LWTAMlp(4, **k)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'inplace'"):
            build(inplace=True)


@pytest.mark.slow
def test_trains_under_compile_without_graph_breaks() -> None:
    model = nn.Sequential(LWTALinear(8, 16, 4), nn.Linear(16, 2))
    compiled = torch.compile(model, fullgraph=True)
    compiled(torch.randn(5, 8)).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_deit_with_competition_trains_and_evaluates() -> None:
    act = partial(LWTA, competitors=8)
    model = timm.create_model("deit_tiny_patch16_224", act_layer=act, img_size=64, num_classes=5)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([1, 3])
    shares: list[float] = []
    for module in model.modules():
        if isinstance(module, LWTA):
            module.register_forward_hook(lambda *arguments: shares.append(_active_share(arguments[2])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.eval()(images).shape == (2, 5)
    assert shares == pytest.approx([1 / 8] * 60)


def _dense_mlp(mlp: LWTAMlp, x: torch.Tensor) -> torch.Tensor:
    return mlp.drop2(mlp.fc2(mlp.drop1(mlp.act(mlp.fc1(x)))))


@pytest.mark.parametrize("training", [True, False])
def test_compact_mlp_equals_the_dense_layers(training: bool) -> None:
    mlp = LWTAMlp(16, 48, competitors=12).train(training)
    x = torch.randn(30, 5, 16, requires_grad=True)
    results = []
    for run in (mlp, lambda t: _dense_mlp(mlp, t)):
        torch.manual_seed(2)
        y = run(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, *mlp.parameters()))))
    for compact, dense in zip(*results, strict=True):
        assert torch.allclose(compact, dense, atol=1e-4, rtol=1e-4)


def test_compact_mlp_steps_aside_for_whoever_needs_the_dense_tensor() -> None:
    mlp = LWTAMlp(8, 16, competitors=4, drop=0.5)
    x = torch.randn(3, 8)
    seen: list[str] = []
    handle = mlp.act.register_forward_hook(lambda *_: seen.append("dense"))
    mlp(x)
    handle.remove()
    mlp.eval()(x)
    mlp.act.register_winners_hook(lambda *_: seen.append("winners"))
    mlp(x)
    assert seen == ["dense", "winners"]
    tracked = LWTAMlp(8, 16, competitors=4, track_kl=True)
    tracked(x)
    assert tracked.act.kl is not None
    mlp.train().act = nn.GELU()
    assert mlp(x).shape == (3, 8)


def test_in_mode_expected_every_unit_is_active_in_eval_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    layer = LWTA(3, eval_mode="expected")
    assert (layer(x) != 0).sum() == 8  # winners, in training
    assert not layer.uses_expected_output
    layer.eval()
    assert layer.uses_expected_output
    assert torch.equal(layer(x), functional.expected(x, 3))
    told: list[Winners] = []
    layer.register_winners_hook(lambda _, winners: told.append(winners))
    assert torch.equal(layer(x), functional.expected(x, 3))
    assert torch.equal(told[0].indices.long(), x.view(4, 2, 3).argmax(2))
    mlp = LWTAMlp(6, 12, competitors=3, eval_mode="expected").eval()
    torch.testing.assert_close(mlp(x), mlp.fc2(functional.expected(mlp.fc1(x), 3)))
