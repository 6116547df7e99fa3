"""What an operation launches on a GPU, found without one: the library's kernels, and PyTorch's own operations.

The operation runs on tensors that say they are on a GPU and hold nothing (PyTorch's FakeTensorMode), so that it takes
the way that it would take there, at any size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.aot import Launch, operation_modules, recording

_RESERVING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_WRITING_ONLY = ("zeros", "zeros_like", "new_zeros", "fill_", "zero_", "randint")


class LibraryOperation(NamedTuple):
    """A launch of one of PyTorch's own operations."""

    name: str
    bytes: int
    """Bytes that it reads and writes, each tensor once."""
    operations: int
    """Multiplications and additions, if it is a product of matrices."""
    dtype: str


class _Watch(TorchDispatchMode):
    """Notes PyTorch's operations, and goes into those of this library."""

    def __init__(self, note: Callable[[LibraryOperation], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # go into what consists of other operations
            if func.namespace == "lwta":
                return _implementation(func)(*args, **kwargs)
            if func.namespace == "aten" and (out := func.decompose(*args, **kwargs)) is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.namespace == "aten" and not func.is_view and name not in _RESERVING:
            self._note(_described(func, name, args, kwargs, out))
        return out


@cache
def _operators() -> dict[str, torch.library.CustomOpDef]:
    """Return the operators of this library by name."""
    values = [value for module in operation_modules() for value in vars(module).values()]
    return {value._name: value for value in values if isinstance(value, torch.library.CustomOpDef)}


def _implementation(func: Any) -> Callable[..., Any]:
    """Return the Python function behind an operator of this library."""
    return _operators()[func.overloadpacket.__name__]._init_fn


def _described(func: Any, name: str, args: Any, kwargs: Any, out: Any) -> LibraryOperation:
    sources = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
    if name == "scatter_":  # writes as many elements as there are indices, not the whole tensor
        index, values = sources[1], sources[2]
        moved = _size(index) + 2 * _size(values)
    else:
        moved = sum(map(_size, results)) + (0 if name in _WRITING_ONLY else sum(map(_size, sources)))
    formula = flop_registry.get(func.overloadpacket)
    operations = int(formula(*args, **kwargs, out_val=out)) if formula else 0
    dtype = str(results[0].dtype if results else sources[0].dtype).removeprefix("torch.")
    return LibraryOperation(name, moved, operations, dtype)


def _size(x: Tensor) -> int:
    """Return the bytes of a tensor's elements, those of an expanded axis once."""
    elements = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        elements *= length if stride else 1
    return elements * x.element_size()


class Launched(NamedTuple):
    """What an operation launches."""

    launches: list[Launch | LibraryOperation]
    """In order."""
    least_bytes: int
    """Bytes of its inputs and outputs, each once: what no implementation can save."""


def launched(call: Callable[[Callable[..., Tensor]], Any], dtype: torch.dtype, target: str = "sm_90") -> Launched:
    """Return what an operation launches.

    Args:
        call: runs the operation and returns its results; its argument makes tensors of a shape, ``make(*shape)``.
        dtype: type of these tensors where the call does not say otherwise.
        target: "sm_80" or "sm_90".
    """
    found: list[Launch | LibraryOperation] = []
    operands: list[Tensor] = []

    def make(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        operands.append(torch.empty(shape, dtype=dtype, device="cuda"))
        return operands[-1]

    with torch.no_grad(), FakeTensorMode():
        with recording(found.append, target), _Watch(found.append):
            results = tree_leaves(call(make))
        return Launched(found, sum(map(_size, [*operands, *results])))
