"""Operations under the transforms of `torch.func`: `grad`, `vjp`, `jacrev`, and `vmap` over them.

`torch.library` registers an autograd rule in a form that these transforms refuse. Under them the same rule serves as a
`torch.autograd.Function` around the same operation; elsewhere the operation is called as it is, at no cost.

Derivatives that are not defined are refused: those of second order, and those in forward mode, for which
`torch.library` has no rule and would return zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def _no_second_derivative(ctx: Any, *grads: Any) -> NoReturn:
    """Raise NotImplementedError: there is no autograd rule."""
    raise NotImplementedError("operations of lwta have first derivatives only, and those in reverse mode")


def _refuse_tangents(arguments: tuple[Any, ...]) -> None:
    """Raise NotImplementedError if an argument carries a tangent, for which there is no rule."""
    if any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in arguments):
        raise NotImplementedError(
            "operations of lwta have no derivatives in forward mode (torch.func.jvp, jacfwd and hessian, "
            "torch.autograd.forward_ad); use reverse mode (backward, or torch.func.grad, vjp and jacrev)"
        )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def transformable(
    operation: Any,
    backward: Callable[..., Any] = _no_second_derivative,
    setup_context: Callable[..., None] = _keep_nothing,
) -> Callable[..., Any]:
    """Register the autograd rule of an operation, and return it as a function that `torch.func` accepts.

    The function takes positional arguments only. `vmap` calls the operation once for each sample.

    Args:
        operation: operator of `torch.library.custom_op`.
        backward: autograd rule, which must call transformable operations only; by default there is none, and a
            derivative raises NotImplementedError.
        setup_context: function that keeps what the rule needs.
    """
    operation.register_autograd(backward, setup_context=setup_context)

    class Transformable(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operation(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            setup_context(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    def call(*arguments: Any) -> Any:
        if forward_ad._current_level >= 0:
            _refuse_tangents(arguments)
        if torch._C._are_functorch_transforms_active():
            return Transformable.apply(*arguments)
        return operation(*arguments)

    return call
