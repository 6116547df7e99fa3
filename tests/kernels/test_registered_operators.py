"""Every operator under `torch.ops.lwta`, in every memory layout of its operands: what is registered is what it does."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lwta import functional
from lwta.kernels import operations
from tests.support.kernel_cases import KERNELS, place_of, running

SEED = torch.tensor(5)
LAYOUTS = ("contiguous", "transposed", "channels last", "channels first", "expanded", "sliced")


def _laid_out(x: Tensor, layout: str) -> Tensor:
    """The tensor with other strides; all rows are the first where it is expanded."""
    if layout == "transposed":
        axes = tuple(reversed(range(x.ndim)))
        return x.permute(axes).contiguous().permute(axes)
    if layout == "channels last" and x.ndim > 2:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "channels first" and x.ndim > 2:
        return x.movedim(-1, 1).contiguous().movedim(1, -1)
    if layout == "expanded" and x.ndim:
        return x[:1].expand(x.shape)
    if layout == "sliced" and x.ndim:
        return torch.stack([x, x], -1).flatten(-2)[..., ::2]
    return x


def _numbers(*shape: int) -> Tensor:
    return torch.linspace(-2, 2, torch.Size(shape).numel()).sin().mul(3).view(shape)


def _indices(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).mul(7).remainder(4).to(torch.uint8).view(shape)


ROWS, IMAGE, TOKENS = _numbers(5, 8), _numbers(2, 8, 3, 5), _numbers(2, 3, 8)
WEIGHT1, BIAS1, WEIGHT2, BIAS2 = _numbers(16, 8), _numbers(16), _numbers(6, 16), _numbers(6)
VALUE, INDEX, G = _numbers(2, 3, 4), _indices(2, 3, 4), _numbers(2, 3, 6)
ANNEALED = torch.tensor(0.7, dtype=torch.float64)
IMAGES, TEXTS = _numbers(9, 6) / 10, _numbers(5, 6) / 10

ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "lwta": [
        (IMAGE, 4, "sample", 0.7, 1, SEED),
        (ROWS, 4, "relaxed", 1.0, 1, SEED, False, ANNEALED),
        (IMAGE, 2, "argmax", 0.7, 0, None),
    ],
    "lwta_backward": [
        (IMAGE, IMAGE, 4, "sample", 0.7, 1, SEED),
        (ROWS, ROWS, 4, "relaxed", 1.0, 1, SEED, False, ANNEALED),
    ],
    "winners": [(IMAGE, 4, "sample", 1, SEED), (ROWS, 4, "argmax", 1, None), (IMAGE, 2, "argmax", 0, None)],
    "winners_backward": [
        (_numbers(2, 3, 5, 4), _indices(2, 3, 5, 4), 4, 1),
        (_numbers(5, 4), _indices(5, 4), 4, 1),
        (_numbers(3, 5, 4), _indices(3, 5, 4), 4, 0),
    ],
    "kl_to_uniform": [(IMAGE, 4, 1), (ROWS, 4, 1)],
    "kl_to_uniform_backward": [(torch.tensor(1.5), IMAGE, 4, 1), (torch.tensor(1.5), ROWS, 4, 1)],
    "linear_winners": [
        (TOKENS, WEIGHT1, BIAS1, 4, "sample", SEED),
        (ROWS, WEIGHT1, None, 4, "argmax", None),
        (ROWS[0], WEIGHT1, BIAS1, 4, "argmax", None),
    ],
    "linear_winners_backward": [
        (VALUE, TOKENS, WEIGHT1, INDEX, 4),
        (VALUE[0], TOKENS[0], WEIGHT1, INDEX[0], 4),
        (VALUE[0, 0], TOKENS[0, 0], WEIGHT1, INDEX[0, 0], 4),
    ],
    "winners_linear": [(VALUE, INDEX, WEIGHT2, BIAS2, 4), (VALUE[0], INDEX[0], WEIGHT2, None, 4)],
    "winners_linear_backward": [(G, VALUE, INDEX, WEIGHT2, 4), (G[0], VALUE[0], INDEX[0], WEIGHT2, 4)],
    "mlp": [
        (TOKENS, WEIGHT1, BIAS1, WEIGHT2, BIAS2, 4, "sample", 0.7, SEED),
        (ROWS, WEIGHT1, None, WEIGHT2, None, 4, "argmax", 1.0, None, ANNEALED),
    ],
    "mlp_backward": [
        (G, TOKENS, WEIGHT1, BIAS1, WEIGHT2, VALUE, INDEX, 4, "sample", 0.7, SEED),
        (G[0], TOKENS[0], WEIGHT1, None, WEIGHT2, VALUE[0], INDEX[0], 4, "argmax", 1.0, None, ANNEALED),
    ],
    "winners_sum": [(VALUE[0], INDEX[0], TOKENS[0], 4), (_numbers(5, 2), _indices(5, 2), ROWS, 8)],
    "concept_similarity": [(IMAGES, TEXTS, _numbers(9, 7), _numbers(5), 3)],
    "concept_logsumexp": [(IMAGES, TEXTS, 10.0)],
    "concept_log_p": [(IMAGES, TEXTS, _numbers(9), _indices(7, 3).long(), _numbers(3) / 10 + 0.5, 10.0)],
}
CASES = [
    pytest.param(name, arguments, id=f"{name}-{number}")
    for name, cases in ARGUMENTS.items()
    for number, arguments in enumerate(cases)
]
LAUNCHES = {
    function: module.__name__.rpartition(".")[2] + ("_backward" if name == "launch_backward" else "")
    for _, path, _ in pkgutil.iter_modules(operations.__path__)
    for module in [importlib.import_module(f"{operations.__name__}.{path}")]
    for name, function in vars(module).items()
    if name.startswith("launch")
}
"""Operators by the functions that launch their kernels."""


def _operator(name: str) -> Any:
    return getattr(torch.ops.lwta, name).default


def _check(name: str, arguments: tuple[Any, ...], **options: Any) -> None:
    result = torch.library.opcheck(_operator(name), arguments, **options)
    assert set(result.values()) == {"SUCCESS"}


def _prepared(arguments: tuple[Any, ...], layout: str, differentiable: bool) -> tuple[Any, ...]:
    """The arguments with every tensor in one layout, those of float32 requiring gradients on demand."""
    tensors = [_laid_out(a, layout) if isinstance(a, Tensor) else a for a in arguments]
    return tuple(
        a.detach().requires_grad_() if differentiable and isinstance(a, Tensor) and a.dtype == torch.float32 else a
        for a in tensors
    )


def test_no_operator_is_left_out() -> None:
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("lwta::")}
    assert registered == {f"lwta::{name}" for name in ARGUMENTS}


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize(
    "layout", [*LAYOUTS[:2], *(pytest.param(layout, marks=pytest.mark.slow) for layout in LAYOUTS[2:])]
)
def test_operators_in_any_layout(name: str, arguments: tuple[Any, ...], layout: str) -> None:
    has_gradient = f"{name}_backward" in ARGUMENTS
    _check(name, _prepared(arguments, layout, has_gradient))


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_each_operand_alone_in_any_layout(name: str, arguments: tuple[Any, ...]) -> None:
    for place, operand in enumerate(arguments):
        for layout in LAYOUTS if isinstance(operand, Tensor) else ():
            changed = (*arguments[:place], _laid_out(operand, layout), *arguments[place + 1 :])
            _check(name, changed, test_utils="test_faketensor")


def _layouts(outputs: Tensor | tuple[Tensor, ...]) -> list[tuple[torch.dtype, torch.Size, tuple[int, ...]]]:
    return [(y.dtype, y.shape, y.stride()) for y in ([outputs] if isinstance(outputs, Tensor) else outputs)]


@pytest.mark.slow
@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: f"{LAUNCHES[launch]}-{launch.__name__}")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_read_any_layout_and_write_the_registered_one(launch: Callable[..., Any], layout: str) -> None:
    name, place = LAUNCHES[launch], place_of(KERNELS[-1])
    for arguments in ARGUMENTS[name]:
        strided = [a.to(place) if isinstance(a, Tensor) else a for a in _prepared(arguments, layout, False)]
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in strided]
            expected = _layouts(_operator(name)(*fakes))
        strided = strided[: len(inspect.signature(launch).parameters)]  # the rest is for operators
        with running(KERNELS[-1]):
            outputs = launch(*strided)
            contiguous = launch(*(a.contiguous() if isinstance(a, Tensor) else a for a in strided))
        assert _layouts(outputs) == expected
        torch.testing.assert_close(outputs, contiguous)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_the_gradient_of_winners_is_laid_out_as_the_responses(layout: str, dim: int) -> None:
    x = _laid_out(torch.randn(4, 8, 4, 6), layout).requires_grad_()
    (gradient,) = torch.autograd.grad(functional.winners(x, 2, dim=dim).values.sum(), x)
    expected = x if layout == "contiguous" or dim == 1 else x.contiguous()  # other axes of such an image are copied
    assert gradient.stride() == expected.stride()


def _parameter(*shape: int) -> Tensor:
    return torch.randn(shape, requires_grad=True)


def _transposed(*shape: int) -> Tensor:
    return torch.randn(shape[::-1]).t().requires_grad_()


def _linear_of_images(x: Tensor, weight: Tensor) -> Tensor:
    return functional.winners_linear(functional.winners(x, 4, mode="argmax"), weight)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear_winners(x, weight, None, 4, mode="argmax").values


def _mlp(x: Tensor, weight1: Tensor, weight2: Tensor) -> Tensor:
    return functional.mlp(x, weight1, None, weight2, None, 4, mode="argmax")[0]


def _tied(x: Tensor, weight: Tensor) -> Tensor:
    return functional.winners_linear(functional.linear_winners(x, weight, None, 4, mode="argmax"), weight.t()) - x


PROGRAMS: list[tuple[Callable[..., Tensor], Callable[[], tuple[Tensor, ...]]]] = [
    (_linear_of_images, lambda: (_parameter(2, 8, 5, 5), _parameter(3, 8))),
    (_linear, lambda: (_parameter(5, 16), _transposed(24, 16))),
    (_mlp, lambda: (_parameter(5, 8), _transposed(24, 8), _transposed(3, 24))),
    (_tied, lambda: (torch.randn(5, 16), _parameter(24, 16))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "make"), PROGRAMS, ids=lambda value: value.__name__)
def test_compiled_gradients_in_other_layouts(
    program: Callable[..., Tensor], make: Callable[[], tuple[Tensor, ...]]
) -> None:
    operands = make()
    leaves = [x for x in operands if x.requires_grad]
    compiled = torch.compile(program, fullgraph=True)
    expected = torch.autograd.grad(program(*operands).square().sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad(compiled(*operands).square().sum(), leaves), expected)


@pytest.mark.parametrize("rows", [(), (0,), (2, 0)])
def test_no_rows_or_a_single_one_have_gradients(rows: tuple[int, ...]) -> None:
    x, weight1, weight2 = _parameter(*rows, 8), _parameter(24, 8), _parameter(3, 24)
    winners = functional.linear_winners(x, weight1, None, 4, mode="argmax")
    y = functional.winners_linear(winners, weight2) + _mlp(x, weight1, weight2)
    gradients = torch.autograd.grad(y.sum(), (x, weight1, weight2))
    assert [g.shape for g in gradients] == [x.shape, weight1.shape, weight2.shape]
