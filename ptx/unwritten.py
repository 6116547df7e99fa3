"""Memory that PyTorch has reserved and nothing has written: `torch.empty` and its like.

A kernel that leaves a part of its output out gives whatever lay there before, on a GPU mostly the right numbers of an
earlier run. Here a read of such a byte is an error, whether a kernel reads it or PyTorch, and so is an output that is
written in part when execution ends.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptx.errors import PtxError
from ptx.global_memory import Reserved

_RESERVING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted")


class _Account(NamedTuple):
    """A storage, and which of its bytes have been written."""

    storage: StorageWeakRef
    written: NDArray[np.bool_]


class Unwritten(TorchDispatchMode):
    """Keeps account, while it is entered, of memory that is reserved on the CPU and not written yet."""

    def __init__(self) -> None:
        super().__init__()
        self._reserved: dict[int, _Account] = {}

    def memory(self, tensor: Tensor) -> Reserved | None:
        """Return the memory of a tensor if parts of it may not have been written."""
        start = tensor.untyped_storage().data_ptr()
        found = self._reserved.get(start)
        return None if found is None or found.storage.expired() else Reserved(start, found.written)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        changed = self._changed(func, args, kwargs)
        name = func.overloadpacket.__name__
        if not (func.is_view or name in _RESERVING or name.endswith("_like")):  # those see the shape alone
            for x in inputs:
                if not any(x is other for other in changed):
                    self._require(x, f"{func} reads")
        out = func(*args, **kwargs)
        shared = {x.untyped_storage().data_ptr() for x in inputs}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in shared:
                self._note(x, name in _RESERVING)
        for x in changed:
            if (memory := self.memory(x)) is not None:
                memory.written[_bytes(x)] = True
        return out

    def _changed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """Return the arguments that an operation writes to."""
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        writes = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        return [x for x in tree_leaves([named.get(name) for name in writes]) if isinstance(x, Tensor)]

    def _note(self, tensor: Tensor, reserved: bool) -> None:
        """Note that a tensor has memory of its own now, at an address that another may have had before."""
        storage = tensor.untyped_storage()
        self._reserved.pop(storage.data_ptr(), None)
        if reserved and storage.nbytes() and tensor.device.type == "cpu":
            written = np.zeros(storage.nbytes(), bool)
            self._reserved[storage.data_ptr()] = _Account(StorageWeakRef(storage), written)

    def _require(self, tensor: Tensor, what: str) -> None:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return
        memory = self.memory(tensor)
        if memory is not None and (missing := int((~memory.written[_bytes(tensor)]).sum())):
            shape = tuple(tensor.shape)
            raise PtxError(f"{what} a tensor of shape {shape}: {missing} of its bytes nothing has written")

    def finish(self) -> None:
        """Look at what is left.

        Raises:
            PtxError: a tensor that still exists has been written in part.
        """
        for found in self._reserved.values():
            if not found.storage.expired() and found.written.any() and not found.written.all():
                missing = int((~found.written).sum())
                raise PtxError(f"an output of {found.written.size} bytes, {missing} of which nothing has written")


def _bytes(tensor: Tensor) -> NDArray[np.int64]:
    """Return the place in its storage of every byte of a tensor."""
    at = np.full((1,), tensor.storage_offset(), np.int64)
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        at = (at[:, None] + np.arange(size) * stride).ravel()
    return (at[:, None] * tensor.element_size() + np.arange(tensor.element_size())).ravel()
