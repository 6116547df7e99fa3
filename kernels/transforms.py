"""Operations under the transforms of `torch.func`: `grad`, `vjp`, `jacrev`, and `vmap` over them.

`torch.library` registers an autograd rule in a form that these transforms refuse. Under them the same rule serves as a
`torch.autograd.Function` around the same operation; elsewhere the operation is called as it is, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _no_second_derivative(ctx: Any, *grads: Any) -> Any:
    """Raise NotImplementedError: there is no autograd rule."""
    raise NotImplementedError("operations of lwta have first derivatives only, and those in reverse mode")


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def transformable(
    operation: Callable[..., Any],
    backward: Callable[..., Any] = _no_second_derivative,
    setup_context: Callable[..., None] = _keep_nothing,
) -> Callable[..., Any]:
    """Return an operation as a function that the transforms of `torch.func` accept.

    The function takes positional arguments only. `vmap` calls the operation once for each sample.

    Args:
        operation: operator of `torch.library`.
        backward: autograd rule that is registered for it, which must call transformable operations only; by default
            there is none, and a derivative raises NotImplementedError.
        setup_context: function that is registered with the rule.
    """

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
        if torch._C._are_functorch_transforms_active():
            return Transformable.apply(*arguments)
        return operation(*arguments)

    return call
