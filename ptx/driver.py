"""A driver of Triton without a GPU: kernels launch through Triton's own path, and are executed on the CPU.

Specialisation, compilation, caching and the launch are Triton's. Two things are not: compilation ends with PTX, which
takes the place of the machine code, and a launch hands it to `ptx.launch`, with tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver as triton_driver

from ptx.counting import Counts
from ptx.errors import PtxError
from ptx.global_memory import Span
from ptx.launch import launch
from ptx.machine import Options
from ptx.unwritten import Unwritten

TARGETS = {"sm_80": 80, "sm_90": 90}
"""Compute capability of each target, times ten."""

SHARED_BYTES = {80: 163 << 10, 90: 227 << 10}
"""Shared memory that a program can have, by capability."""


class Launched(NamedTuple):
    """A launch that was executed."""

    name: str
    """Names of the kernel's module and of the kernel."""
    grid: tuple[int, int, int]
    text: str
    """PTX that was executed."""
    counts: Counts
    seconds: float
    """Time that the execution took."""


@dataclass
class Session:
    """What holds while kernels are executed, and what was."""

    target: str
    """"sm_80" or "sm_90"."""
    options: Options = field(default_factory=Options)
    change: Callable[[str], str] | None = None
    """Function of the PTX that is executed in its place: faults are put in so."""
    launches: list[Launched] = field(default_factory=list)
    """Every launch so far."""
    unwritten: Unwritten = field(default_factory=Unwritten)
    """Account of memory that nothing has written."""


_sessions: list[Session] = []
"""Sessions under way, the inner one last."""


@contextmanager
def executing(target: str = "sm_90", options: Options | None = None) -> Iterator[Session]:
    """Execute every Triton kernel that is launched inside, on tensors of the CPU.

    Kernels must have been defined without ``TRITON_INTERPRET``.

    Args:
        target: "sm_80" or "sm_90".
        options: what is checked and counted.

    Yields:
        The session, whose attributes may be changed at any time.

    Raises:
        ValueError: the target is none of these.
    """
    if target not in TARGETS:
        raise ValueError(f"target: expected one of {', '.join(TARGETS)}, got {target!r}")
    _sessions.append(Session(target, options or Options()))
    hook = mock.patch.object(knobs.runtime, "add_stages_inspection_hook", _stop_at_ptx)
    stands_in = mock.patch.object(triton_driver, "_active", _Driver())
    try:
        with hook, stands_in, _sessions[-1].unwritten:
            yield _sessions[-1]
        _sessions[-1].unwritten.finish()
    finally:
        _sessions.pop()


def _current() -> Session:
    if not _sessions:
        raise PtxError("a compiled kernel is launched outside of ptx.executing")
    return _sessions[-1]


def _stop_at_ptx(backend: Any = None, stages: dict[str, Any] | None = None, *_: Any) -> tuple[str, str] | None:
    """Replace the assembler by PTX itself; without arguments, name this for Triton's cache."""
    if stages is None:
        return "ptx", "ptx"
    stages["cubin"] = lambda text, metadata: text.encode()
    return None


class _Utils:
    """What Triton asks of a device."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": SHARED_BYTES[TARGETS[_current().target]], "multiprocessor_count": 132,
            "max_num_regs": 65536, "warpSize": 32, "sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1,
        }  # fmt: skip

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """Return module, function, registers, spills and threads; the function is name and text."""
        return object(), (name, kernel.decode()), 0, 0, 1024

    def unload_module(self, module: object) -> None:
        """Forget a module."""


class _Launcher:
    """What Triton calls in place of a compiled launcher."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._kinds = list(source.signature.values())
        self._shared = metadata.shared
        self._name = f"{source.fn.fn.__module__.rpartition('.')[2]}.{metadata.name}"
        if metadata.global_scratch_size:
            raise PtxError(f"{metadata.name}: scratch memory")

    def __call__(
        self, x: int, y: int, z: int, stream: int, function: tuple[str, str], packed: Any, metadata: Any,
        enter: Any, leave: Any, *arguments: Any,
    ) -> None:  # fmt: skip
        session = _current()
        values: list[int | float] = []
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        for kind, argument in zip(self._kinds, arguments, strict=False):
            if kind == "constexpr":
                continue
            if isinstance(argument, Tensor):
                values.append(argument.data_ptr())
            else:
                values.append(float(argument) if kind in ("fp32", "f32") else int(argument))
        text = function[1]
        text = session.change(text) if session.change else text
        reserved = [memory for tensor in tensors if (memory := session.unwritten.memory(tensor)) is not None]
        spans = [extent(tensor) for tensor in tensors]
        started = perf_counter()
        counts = launch(text, (x, y, z), values, spans, self._shared, session.options, reserved=reserved)
        session.launches.append(Launched(self._name, (x, y, z), text, counts, perf_counter() - started))


def extent(tensor: Tensor) -> Span:
    """Return the bytes from the first to the last element of a tensor."""
    if tensor.numel() == 0:
        return Span(tensor.data_ptr(), 0)
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return Span(tensor.data_ptr(), (steps + 1) * tensor.element_size())


class _Driver(DriverBase):
    """The driver; each target is a device of its own, as Triton keeps compiled kernels by device."""

    def __init__(self) -> None:
        self.utils, self.launcher_cls = _Utils(), _Launcher

    def get_current_device(self) -> int:
        return TARGETS[_current().target]

    def set_current_device(self, device: int) -> None:
        """Keep the device."""

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return divmod(TARGETS[_current().target], 10)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", TARGETS[_current().target], 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def is_active() -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_benchmarker(self) -> Any:
        raise NotImplementedError("nothing is timed here")
