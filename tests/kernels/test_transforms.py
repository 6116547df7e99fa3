"""The operations under the transforms of `torch.func`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from lwta import LWTA, LWTAConv2d, LWTALinear, LWTAMlp, competitions, functional, set_eval_mode

pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop:UserWarning",
    "ignore:`torch.jit.script` is deprecated:FutureWarning",  # PyTorch's own use of it under jvp
)

SEED = torch.tensor(5)
WEIGHT = torch.linspace(-1, 1, 16 * 8).view(16, 8).sin()
WINNERS = functional.winners(WEIGHT, 4, seed=SEED)


def _winners_linear(x: Tensor) -> Tensor:
    return functional.winners_linear(functional.winners(x, 4, seed=SEED), WEIGHT)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "lwta": lambda x: functional.lwta(x, 4, seed=SEED),
    "lwta argmax": lambda x: functional.lwta(x, 4, mode="argmax"),
    "lwta relaxed": lambda x: functional.lwta(x, 4, mode="relaxed", seed=SEED),
    "expected": lambda x: functional.expected(x, 4),
    "winners": lambda x: functional.winners(x, 4, seed=SEED).values,
    "linear_winners": lambda x: functional.linear_winners(x, WEIGHT, None, 4, seed=SEED).values,
    "linear_winners, weight": lambda weight: functional.linear_winners(WEIGHT, weight, None, 1, seed=SEED).values,
    "winners_linear": _winners_linear,
    "winners_linear, weight": lambda weight: functional.winners_linear(WINNERS, weight),
    "mlp": lambda x: functional.mlp(x, WEIGHT, None, WEIGHT.t(), None, 4, seed=SEED)[0],
    "mlp, weight": lambda weight: functional.mlp(WEIGHT, WEIGHT, None, weight @ WEIGHT.t(), None, 4, seed=SEED)[0],
    "kl_to_uniform": lambda x: functional.kl_to_uniform(x, 4),
}
COMPOSED = "expected"
"""Operation that is plain PyTorch, which has every derivative."""


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
def test_a_mapped_operation_is_that_of_each_sample(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(3, 2, 8)
    torch.testing.assert_close(vmap(operation)(x), torch.stack([operation(sample) for sample in x]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_jacobians_are_those_of_autograd(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(2, 8)
    torch.testing.assert_close(jacrev(operation)(x), torch.autograd.functional.jacobian(operation, x))


def test_gradients_of_a_network_with_respect_to_its_parameters_for_each_sample() -> None:
    network = nn.Sequential(
        LWTAConv2d(3, 8, 3, competitors=4),
        nn.Flatten(),
        LWTALinear(32, 16, 4),
        LWTAMlp(16, 24, competitors=12),
        LWTA(8),
    ).eval()
    set_eval_mode(network, "argmax")
    assert {type(layer) for _, layer in competitions(network)} == {LWTA, LWTAConv2d, LWTALinear}
    x = torch.randn(3, 3, 4, 4)
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


def _with_tangent(operation: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with forward_ad.dual_level():
        operation(forward_ad.make_dual(x, torch.ones_like(x)))


FORWARD_MODE: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], object]] = {
    "jvp": lambda operation, x: jvp(operation, (x,), (x,)),
    "jacfwd": lambda operation, x: jacfwd(operation)(x),
    "hessian": lambda operation, x: hessian(lambda v: operation(v).sum())(x),
    "forward_ad": _with_tangent,
    "forward_ad of what requires a gradient": lambda operation, x: _with_tangent(operation, x.requires_grad_()),
}


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != COMPOSED])
@pytest.mark.parametrize("mode", FORWARD_MODE)
def test_forward_mode_is_refused(mode: str, name: str) -> None:
    own = r"no derivatives in forward mode .*; use reverse mode"
    with pytest.raises(NotImplementedError, match="forward mode" if mode == "hessian" else own):
        FORWARD_MODE[mode](OPERATIONS[name], torch.randn(2, 8))


def test_forward_mode_beside_an_operation_is_no_concern_of_it() -> None:
    x = torch.randn(2, 8)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x)
        y = dual * functional.lwta(x, 4, seed=SEED)
        assert forward_ad.unpack_dual(y).tangent is not None
    _, tangent = jvp(lambda v: v * functional.lwta(x, 4, seed=SEED), (x,), (x,))
    torch.testing.assert_close(tangent, x * functional.lwta(x, 4, seed=SEED))


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != COMPOSED])
def test_second_derivatives_are_refused(name: str) -> None:
    operation, x = OPERATIONS[name], torch.randn(2, 8, requires_grad=True)
    (first,) = torch.autograd.grad(operation(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.square().sum().backward()
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jacrev(jacrev(lambda v: operation(v).square()))(x.detach())


@pytest.mark.slow
def test_a_compiled_program_may_take_gradients_so() -> None:
    loss = lambda v: OPERATIONS["lwta"](v).square().sum()  # noqa: E731
    x = torch.randn(3, 8)
    compiled = torch.compile(grad(loss), fullgraph=True)
    torch.testing.assert_close(compiled(x), grad(loss)(x))
