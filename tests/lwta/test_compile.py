"""Training under `torch.compile` while the temperature is annealed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import lwta
from lwta import LWTA, ELBOLoss, LWTAConv2d, LWTALinear, LWTAMlp, functional, set_temperature

pytestmark = pytest.mark.slow

TEMPERATURES = (1.67, 1.5, 1.2, 1, 0.8, 0.67)


@pytest.fixture(autouse=True)
def _compiled_anew() -> None:
    torch._dynamo.reset()


def _network(track_kl: bool) -> nn.Sequential:
    return nn.Sequential(
        LWTAConv2d(3, 8, 3, competitors=4, track_kl=track_kl),
        nn.Flatten(),
        LWTALinear(72, 16, 4, track_kl=track_kl),
        LWTAMlp(16, 24, competitors=12, track_kl=track_kl),
        LWTA(8, track_kl=track_kl),
        nn.Linear(16, 3),
    )


def test_the_network_has_a_layer_of_every_kind() -> None:
    exported = {kind for kind in vars(lwta).values() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    assert {type(layer) for layer in _network(False)} >= exported - {lwta.Competition, ELBOLoss}


def _losses_and_gradients(
    model: nn.Module, forward: Callable[[Tensor], Tensor], criterion: nn.Module
) -> list[tuple[Tensor, list[Tensor]]]:
    """Loss and gradients of each step of a training in which the temperature falls."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for temperature in TEMPERATURES:
        set_temperature(model, temperature)
        optimizer.zero_grad()
        loss = criterion(forward(torch.randn(5, 3, 5, 5)), torch.randint(0, 3, (5,)))
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        optimizer.step()
    return found


@pytest.mark.parametrize(("backend", "track_kl"), [("aot_eager", False), ("inductor", True)])
def test_annealing_a_network_of_every_layer_takes_two_graphs_and_trains_as_eager_does(
    backend: str, track_kl: bool
) -> None:
    model = _network(track_kl)
    twin = copy.deepcopy(model)
    count = CompileCounterWithBackend(backend)
    with torch._inductor.config.patch(fallback_random=True):
        compiled = torch.compile(model, backend=count, fullgraph=True)
        got = _losses_and_gradients(model, compiled, ELBOLoss(model, kl_weight=0.1 * track_kl))
    expected = _losses_and_gradients(twin, twin, ELBOLoss(twin, kl_weight=0.1 * track_kl))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert count.frame_count == 2  # one for the first temperature, one for all others


OPERATIONS: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "lwta": lambda x, tau, seed: functional.lwta(x, 4, temperature=tau, seed=seed),
    "relaxed": lambda x, tau, seed: functional.lwta(x, 4, mode="relaxed", temperature=tau, seed=seed),
    "mlp": lambda x, tau, seed: functional.mlp(x, x.t() @ x, None, x, None, 4, temperature=tau, seed=seed)[0],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_dynamic_temperatures_take_one_graph(name: str) -> None:
    operation, seed, count = OPERATIONS[name], torch.tensor(7), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(operation, backend=count, dynamic=True, fullgraph=True)
    x = torch.randn(6, 8, requires_grad=True)
    for temperature in map(float, TEMPERATURES):
        got, expected = compiled(x, temperature, seed), operation(x, temperature, seed)
        torch.testing.assert_close(got, expected)
        gradients = [torch.autograd.grad(y.square().sum(), x) for y in (got, expected)]
        torch.testing.assert_close(*gradients)
    assert count.frame_count == 1


def test_a_compiled_program_refuses_a_temperature_as_eager_does() -> None:
    model = nn.Sequential(LWTA(4))
    compiled = torch.compile(model, backend="aot_eager")
    for temperature in (1.5, 1.2):
        model[0].temperature = temperature
        compiled(torch.randn(2, 8))
    model[0].temperature = 0.0
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        compiled(torch.randn(2, 8))
