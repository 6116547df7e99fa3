"""Public functions: arguments, seeds, and life under torch's transformations."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor
from torch.utils.checkpoint import checkpoint

from lwta import LWTA, LWTAMlp, Winners, functional

FUNCTIONS = [
    pytest.param(functional.lwta, id="lwta"),
    pytest.param(functional.winners, id="winners"),
    pytest.param(functional.kl_to_uniform, id="kl_to_uniform"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("x", "competitors", "keywords", "error", "message"),
    [
        (torch.randn(2, 10), 4, {}, ValueError, r"competitors=4 for axis -1 .*\(2, 10\), that is 10 units"),
        (torch.randn(2, 8), 0, {}, ValueError, "competitors must be at least 1, got 0"),
        (torch.randn(2, 8), 2.0, {}, TypeError, "competitors must be an int, got float"),
        (torch.randn(2, 8), True, {}, TypeError, "competitors must be an int, got bool"),
        (torch.ones(2, 8, dtype=torch.int32), 2, {}, TypeError, "got a tensor of torch.int32"),
        ([1.0, 2.0], 2, {}, TypeError, "x must be a tensor .* got list"),
        (torch.tensor(1.0), 1, {}, ValueError, "at least one dimension"),
        (torch.randn(2, 8), 2, {"dim": 2}, ValueError, r"dim must lie in \[-2, 1\] .* got 2"),
        (torch.randn(2, 0), 2, {}, ValueError, "that is 0 units"),
    ],
)
def test_bad_input(function, x, competitors, keywords, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        function(x, competitors, **keywords)


def test_bad_options() -> None:
    x = torch.randn(2, 8)
    with pytest.raises(ValueError, match="mode must be one of 'sample', 'argmax', 'relaxed', got 'soft'"):
        functional.lwta(x, 2, mode="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode must be one of 'sample', 'argmax', got 'relaxed'"):
        functional.winners(x, 2, mode="relaxed")  # type: ignore[arg-type]
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be positive and finite"):
            functional.lwta(x, 2, temperature=temperature)
    with pytest.raises(TypeError, match="seed must be a 0-dim int64 tensor"):
        functional.lwta(x, 2, seed=torch.tensor([1]))
    with pytest.raises(TypeError, match="seed must be a 0-dim int64 tensor"):
        functional.lwta(x, 2, seed=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be on the device of x"):
        functional.lwta(x, 2, seed=torch.tensor(1, device="meta"))


@pytest.mark.parametrize("temperature", [1e-45, 1e-39, 1e39, 1e300])
def test_a_temperature_that_float32_cannot_hold_is_refused(temperature: float) -> None:
    x = torch.randn(2, 8)
    with pytest.raises(ValueError, match=r"positive and finite, got 1e.*; it ranges from 1.2e-38 to 8.5e\+37"):
        functional.lwta(x, 2, temperature=temperature)


@pytest.mark.parametrize("temperature", [2.0**-126, 2.0**126])
@pytest.mark.parametrize("mode", ["sample", "relaxed"])
def test_extreme_temperatures_keep_output_and_gradient_finite(mode: str, temperature: float) -> None:
    x = torch.randn(2, 8, requires_grad=True)
    y = functional.lwta(x, 2, mode=mode, temperature=temperature)  # type: ignore[arg-type]
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert not x.grad.isnan().any()


@pytest.mark.filterwarnings("ignore:.*Sparse.*:UserWarning", "ignore:.*nested tensors.*:UserWarning")
def test_tensors_that_are_not_dense_are_refused_by_name_and_layout() -> None:
    x, weight = torch.randn(2, 8), torch.randn(8, 8)
    nested = torch.nested.nested_tensor
    for tensor, seen in (
        (x.to_sparse(), "torch.sparse_coo"),
        (x.to_sparse_csr(), "torch.sparse_csr"),
        (x.to_mkldnn(), "torch._mkldnn"),
        (nested([x[0], x[1]]), "nested tensor of layout torch.strided"),
        (nested([x[0], x[1]], layout=torch.jagged), "nested tensor of layout torch.jagged"),
    ):
        message = f"x must be a dense tensor, got a .*{seen}"
        for call in (
            lambda x=tensor: functional.lwta(x, 2),
            lambda x=tensor: functional.winners(x, 2),
            lambda x=tensor: functional.expected(x, 2),
            lambda x=tensor: functional.kl_to_uniform(x, 2),
            lambda x=tensor: functional.linear_winners(x, weight, None, 2),
            lambda x=tensor: functional.mlp(x, weight, None, weight, None, 2),
        ):
            with pytest.raises(TypeError, match=message):
                call()
    with pytest.raises(TypeError, match=r"weight must be a dense tensor, .* layout torch\.sparse_coo"):
        functional.linear_winners(x, weight.to_sparse(), None, 2)
    with pytest.raises(TypeError, match=r"x must be a tensor .*, got str"):
        functional.linear_winners("x", weight, None, 2)  # type: ignore[arg-type]


def test_indices_that_are_not_those_of_the_values_are_refused() -> None:
    values, weight = torch.randn(2, 4), torch.randn(3, 8)
    indices = torch.zeros(2, 4, dtype=torch.uint8)
    assert functional.winners_linear(Winners(values, indices.long(), 2), weight).shape == (2, 3)
    for wrong, error, message in (
        (indices.float(), TypeError, "winners.indices must be a tensor of integers, got a tensor of torch.float32"),
        (indices.tolist(), TypeError, "winners.indices must be a tensor of integers, got list"),
        (indices[:1], ValueError, r"shape and device of the values, \(2, 4\) on cpu, got \(1, 4\) on cpu"),
        (indices.to("meta"), ValueError, r"on cpu, got \(2, 4\) on meta"),
    ):
        with pytest.raises(error, match=message):
            functional.winners_linear(Winners(values, wrong, 2), weight)  # type: ignore[arg-type]


def test_a_distributed_tensor_is_refused_by_name_wherever_it_stands(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    x, weight1, bias1, weight2, bias2 = (torch.randn(s) for s in ((2, 8), (8, 8), (8,), (3, 8), (3,)))
    seed = torch.tensor(5)
    winners = functional.winners(x, 2)
    calls: list[tuple[Callable[..., object], dict[str, Tensor]]] = [
        (lambda **t: functional.lwta(t["x"], 2, seed=t["seed"]), {"x": x, "seed": seed}),
        (lambda **t: functional.expected(t["x"], 2), {"x": x}),
        (lambda **t: functional.kl_to_uniform(t["x"], 2), {"x": x}),
        (lambda **t: functional.winners(t["x"], 2, seed=t["seed"]), {"x": x, "seed": seed}),
        (
            lambda **t: functional.linear_winners(t["x"], t["weight"], t["bias"], 2, seed=t["seed"]),
            {"x": x, "weight": weight1, "bias": bias1, "seed": seed},
        ),
        (
            lambda **t: functional.winners_linear(Winners(t["winners.values"], t["winners.indices"], 2), t["weight"]),
            {"winners.values": winners.values, "winners.indices": winners.indices, "weight": weight2},
        ),
        (
            lambda **t: functional.mlp(t["x"], t["weight1"], t["bias1"], t["weight2"], t["bias2"], 2, seed=t["seed"]),
            {"x": x, "weight1": weight1, "bias1": bias1, "weight2": weight2, "bias2": bias2, "seed": seed},
        ),
        (lambda **t: LWTA(2)(t["x"]), {"x": x}),
        (lambda **t: LWTAMlp(8, competitors=2)(t["x"]), {"x": x}),
    ]
    try:
        mesh = init_device_mesh("cpu", (1,))
        for call, tensors in calls:
            call(**tensors)
            for name, tensor in tensors.items():
                with pytest.raises(TypeError, match=f"{name} must be a plain tensor, got a DTensor; see its to_local"):
                    call(**{**tensors, name: distribute_tensor(tensor, mesh)})
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_masked_unit_has_no_chance_and_no_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[-torch.inf, 0.0, 0.0, 1.0]], dtype=dtype, requires_grad=True)
    rest = x.detach()[:, 1:].requires_grad_()
    y = functional.expected(x, 4)
    y.square().sum().backward()
    functional.expected(rest, 3).square().sum().backward()
    torch.testing.assert_close(y[:, 1:], functional.expected(rest, 3))
    torch.testing.assert_close(x.grad[:, 1:], rest.grad)
    assert y[0, 0] == x.grad[0, 0] == 0
    for seed in range(20):
        assert functional.winners(x, 4, seed=torch.tensor(seed)).indices.item() != 0


@pytest.mark.parametrize("competitors", [2, 3, 12])
def test_masked_units_of_a_fused_layer_never_win_and_have_no_gradient(competitors: int) -> None:
    x, weight = torch.randn(40, 8, requires_grad=True), torch.randn(24, 8, requires_grad=True)
    bias = torch.randn(24)
    masked = torch.arange(0, 24, competitors)
    bias[masked] = -torch.inf
    leaves = (x, weight, bias.requires_grad_())
    fused = functional.linear_winners(*leaves, competitors)
    alone = functional.winners(nn.functional.linear(*leaves), competitors)
    for winners in (fused, alone):
        assert (winners.indices != 0).all()
        assert winners.values.isfinite().all()
        gradients = torch.autograd.grad(winners.values.square().sum(), leaves)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[1][masked] == 0).all()
        assert (gradients[2][masked] == 0).all()
        assert gradients[1].count_nonzero()


def test_a_masked_unit_of_a_perceptron_leaves_all_gradients_finite() -> None:
    weights = torch.randn(24, 8), torch.randn(24), torch.randn(3, 24)
    weights[1][[0, 5, 13]] = -torch.inf
    leaves = [w.requires_grad_() for w in weights]
    x = torch.randn(5, 8, requires_grad=True)
    y, _ = functional.mlp(x, leaves[0], leaves[1], leaves[2], None, 12)
    gradients = torch.autograd.grad(y.sum(), (x, *leaves))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[1][[0, 5, 13]] == 0).all()
    assert (gradients[2][[0, 5, 13]] == 0).all()


def test_a_block_of_minus_infinity_alone_goes_to_its_first_unit_or_has_no_law() -> None:
    x = torch.full((1, 3), -torch.inf)
    assert functional.lwta(x, 3).tolist() == [[-torch.inf, 0, 0]]
    winners = functional.winners(x, 3)
    assert (winners.values.item(), winners.indices.item()) == (-torch.inf, 0)
    assert functional.lwta(x, 3, mode="relaxed").isnan().all()
    assert functional.expected(x, 3).isnan().all()


def test_default_axis_is_channels_of_images() -> None:
    image, tokens = torch.randn(2, 8, 3, 3), torch.randn(2, 5, 8)
    seed = torch.tensor(1)
    assert torch.equal(functional.lwta(image, 4, seed=seed), functional.lwta(image, 4, dim=1, seed=seed))
    assert torch.equal(functional.lwta(tokens, 4, seed=seed), functional.lwta(tokens, 4, dim=2, seed=seed))
    assert functional.winners(image, 4).values.shape == (2, 3, 3, 2)


def test_one_competitor_is_the_identity() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    assert torch.equal(functional.lwta(x, 1), x)
    compact = functional.winners(x, 1)
    assert torch.equal(compact.values, x)
    assert (compact.indices == 0).all()
    assert functional.kl_to_uniform(x, 1) == 0


def test_seeds() -> None:
    x = torch.randn(50, 64)
    torch.manual_seed(5)
    first, second = functional.lwta(x, 8), functional.lwta(x, 8)
    torch.manual_seed(5)
    assert torch.equal(functional.lwta(x, 8), first)
    assert not torch.equal(first, second)
    seed = torch.tensor(11)
    assert torch.equal(functional.lwta(x, 8, seed=seed), functional.winners(x, 8, seed=seed).to_dense())


def test_argmax_draws_nothing() -> None:
    state = torch.get_rng_state()
    functional.lwta(torch.randn(2, 8, generator=torch.Generator()), 2, mode="argmax")
    assert torch.equal(torch.get_rng_state(), state)


def test_checkpointing_replays_the_same_winners() -> None:
    linear = nn.Linear(16, 32)
    x = torch.randn(20, 16)

    def block(t: torch.Tensor) -> torch.Tensor:
        return functional.lwta(linear(t), 8).square().sum()

    torch.manual_seed(1)
    block(x).backward()
    expected = linear.weight.grad.clone()
    linear.zero_grad()
    torch.manual_seed(1)
    checkpoint(block, x, use_reentrant=False).backward()
    assert torch.equal(linear.weight.grad, expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sample", "argmax", "relaxed"])
def test_compiles_without_graph_breaks(mode: str) -> None:
    seed = torch.tensor(3)

    def run(x: torch.Tensor, seed: torch.Tensor | None) -> torch.Tensor:
        return functional.lwta(x * 2, 4, mode=mode, seed=seed) + functional.kl_to_uniform(x, 4)  # type: ignore[arg-type]

    compiled = torch.compile(run, fullgraph=True)
    x = torch.randn(5, 16, requires_grad=True)
    y = compiled(x, seed)
    y.sum().backward()
    gradient, x.grad = x.grad, None
    expected = run(x, seed)
    expected.sum().backward()
    assert torch.allclose(y, expected)
    assert torch.allclose(gradient, x.grad, atol=1e-6)
    assert not torch.equal(compiled(x.repeat(20, 1), None), compiled(x.repeat(20, 1), None)) or mode == "argmax"


def test_autocast_keeps_the_type_and_sums_kl_in_float32() -> None:
    linear = nn.Linear(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = linear(torch.randn(4, 8))
        y = functional.lwta(h, 4)
        kl = functional.kl_to_uniform(h, 4)
    assert y.dtype == torch.bfloat16
    assert kl.dtype == torch.float32
    (y.sum() + kl).backward()
    assert linear.weight.grad.dtype == torch.float32


def test_winners_to_dense_and_back() -> None:
    compact = functional.winners(torch.randn(3, 4, 24), 12)
    dense = compact.to_dense()
    again = Winners.from_dense(dense, compact.indices, 12)
    assert torch.equal(again.values, compact.values)
    assert again.indices.dtype == torch.uint8
    assert torch.equal(dense.gather(-1, compact.units()), compact.values)


@pytest.mark.parametrize("competitors", [1, 2, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_expected_output_is_the_mean_over_the_winners_law(competitors: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 24, 3, 2).to(dtype)
    y = functional.expected(x, competitors)
    blocks = x.double().unflatten(1, (-1, competitors))
    weights = blocks.exp() / blocks.exp().sum(2, keepdim=True)
    torch.testing.assert_close(y.double(), (weights * blocks).flatten(1, 2), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    assert y.dtype == dtype


def test_expected_output_is_what_many_draws_come_to() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 12)
    draws = functional.lwta(x.expand(20_000, 12), 4, seed=torch.tensor(1))
    error = (draws.mean(0) - functional.expected(x, 4)[0]).abs()
    # six standard errors of each of twelve means: a false alarm in 4·10⁷ runs
    assert (error <= 6 * draws.std(0) / 20_000**0.5).all()
