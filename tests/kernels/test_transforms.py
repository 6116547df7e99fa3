"""The operations under the transforms of `torch.func`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

from lwta import LWTA, LWTALinear, LWTAMlp, functional

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")

SEED = torch.tensor(5)
WEIGHT = torch.linspace(-1, 1, 16 * 8).view(16, 8).sin()


def _winners_linear(x: Tensor) -> Tensor:
    return functional.winners_linear(functional.winners(x, 4, seed=SEED), WEIGHT)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "lwta": lambda x: functional.lwta(x, 4, seed=SEED),
    "lwta argmax": lambda x: functional.lwta(x, 4, mode="argmax"),
    "lwta relaxed": lambda x: functional.lwta(x, 4, mode="relaxed", seed=SEED),
    "expected": lambda x: functional.expected(x, 4),
    "winners": lambda x: functional.winners(x, 4, seed=SEED).values,
    "linear_winners": lambda x: functional.linear_winners(x, WEIGHT, None, 4, seed=SEED).values,
    "winners_linear": _winners_linear,
    "mlp": lambda x: functional.mlp(x, WEIGHT, None, WEIGHT.t(), None, 4, seed=SEED)[0],
    "kl_to_uniform": lambda x: functional.kl_to_uniform(x, 4),
}


def _gradient(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(operation(x).square().sum(), x)[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_grad_and_vjp_are_the_gradient_of_autograd(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(3, 8)
    expected = _gradient(operation, x)
    torch.testing.assert_close(grad(lambda v: operation(v).square().sum())(x), expected)
    y, pull_back = vjp(operation, x)
    torch.testing.assert_close(pull_back(2 * y)[0], expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_each_sample_are_those_of_the_samples_alone(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(3, 1, 8)
    each = vmap(grad(lambda v: operation(v).square().sum()))(x)
    torch.testing.assert_close(each, torch.stack([_gradient(operation, row) for row in x]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_jacobians_are_those_of_autograd(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(2, 8)
    torch.testing.assert_close(jacrev(operation)(x), torch.autograd.functional.jacobian(operation, x))


def test_gradients_of_a_network_with_respect_to_its_parameters_for_each_sample() -> None:
    network = nn.Sequential(LWTALinear(8, 16, 4), LWTAMlp(16, 24, competitors=12), LWTA(8)).eval()
    x = torch.randn(3, 8)
    for layer in (network[0], network[1].act, network[2]):
        layer.eval_mode = "argmax"
    parameters = dict(network.named_parameters())

    def loss(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(network, values, (sample[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for k, sample in enumerate(x):
        alone = torch.autograd.grad(network(sample[None]).square().sum(), list(parameters.values()))
        for name, gradient in zip(parameters, alone, strict=True):
            torch.testing.assert_close(each[name][k], gradient)


def test_frozen_weights_and_biases_are_differentiated_as_by_autograd() -> None:
    x, bias = torch.randn(3, 8), torch.randn(16)

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        return functional.linear_winners(x, weight, bias, 4, seed=SEED).values.square().sum()

    weight, bias = WEIGHT.clone().requires_grad_(), bias.requires_grad_()
    expected = torch.autograd.grad(loss(weight, bias), (weight, bias))
    torch.testing.assert_close(grad(loss, argnums=(0, 1))(weight.detach(), bias.detach()), expected)


def test_what_is_not_defined_is_refused() -> None:
    x = torch.randn(2, 8)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jacrev(jacrev(OPERATIONS["lwta"]))(x)
    with pytest.raises(NotImplementedError, match="jvp"):
        jvp(OPERATIONS["lwta"], (x,), (x,))


@pytest.mark.slow
def test_a_compiled_program_may_take_gradients_so() -> None:
    loss = lambda v: OPERATIONS["lwta"](v).square().sum()  # noqa: E731
    x = torch.randn(3, 8)
    compiled = torch.compile(grad(loss), fullgraph=True)
    torch.testing.assert_close(compiled(x), grad(loss)(x))
