"""Ahead-of-time compilation of kernels, without a GPU, as their launch functions would compile them.

A launch function is called on tensors without storage while a recorder stands in for its kernel, so that what is
compiled has the launch parameters that users get, and cannot drift from them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from lwta.kernels import operations
from lwta.kernels.triton_parts import launch

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

_POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.uint32: "*u32",
}
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


class Launch(NamedTuple):
    """One recorded launch of a kernel."""

    kernel: Any
    grid: tuple[int, ...]
    """Number of programs along each axis."""
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Module and function of the kernel, such as lwta.forward."""
        module = self.kernel.fn.__module__.rpartition(".")[2]
        function = self.kernel.fn.__name__.strip("_").removesuffix("kernel").strip("_")
        return f"{module}.{function}" if function else module


class _Recorder:
    """Stands in for a kernel: `kernel[grid](…)` notes its arguments and launches nothing."""

    def __init__(self, kernel: Any, note: Callable[[Launch], None]) -> None:
        self._kernel = kernel
        self._note = note

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*positional: Any, **named: Any) -> None:
            options = {name: named.pop(name) for name in _OPTIONS if name in named}
            arguments = dict(zip(self._kernel.arg_names, positional, strict=False)) | named
            self._note(Launch(self._kernel, grid, arguments, options))

        return launch


@contextmanager
def recording(note: Callable[[Launch], None], target: str = "sm_90") -> Iterator[None]:
    """Note every kernel of the library that is launched inside, in order, as for a target, and launch none."""
    with ExitStack() as stack:
        for module in operation_modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, triton.JITFunction):
                    stack.enter_context(mock.patch.object(module, name, _Recorder(value, note)))
        stack.enter_context(mock.patch.object(launch, "backend", return_value=TARGETS[target].backend))
        stack.enter_context(mock.patch.object(torch.cuda, "device_of", nullcontext))
        yield


def operation_modules() -> list[ModuleType]:
    """Return the modules of the library's operations."""
    names = [module.name for module in pkgutil.iter_modules(operations.__path__)]
    return [importlib.import_module(f"{operations.__name__}.{name}") for name in names]


def record(call: Callable[[], object], target: str = "sm_90") -> list[Launch]:
    """Return the kernels that ``call`` launches on a target, in order, with their arguments."""
    launches: list[Launch] = []
    with recording(launches.append, target):
        call()
    return launches


def compile_launch(recorded: Launch, target: str) -> CompiledKernel:
    """Compile a recorded launch for "sm_80", "sm_90" or "gfx942", with the specialisation that a launch would get."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    arguments = recorded.arguments
    for position, parameter in enumerate(recorded.kernel.params):
        value, name = arguments[parameter.name], parameter.name
        unspecialised = parameter.do_not_specialize
        one = type(value) is int and value == 1 and not unspecialised
        if parameter.is_constexpr or value is None or one:
            signature[name], constants[(position,)] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[name] = _POINTERS[value.dtype]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0 and not unspecialised):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(recorded.kernel, signature, constants, attributes)
    return triton.compile(source, target=TARGETS[target], options=recorded.options)


class Sass(NamedTuple):
    """What the machine code of a kernel shows."""

    instructions: Counter[str]
    """Number of each instruction, by full name such as LDG.E.128."""

    registers: int
    """Of a thread."""

    spills: int
    """Bytes of local memory of a thread."""

    def count(self, *prefixes: str) -> int:
        """Instructions whose names begin with one of the prefixes."""
        return sum(number for name, number in self.instructions.items() if name.startswith(prefixes))

    def widths(self, prefix: str) -> list[int]:
        """Widths in bits of the memory instructions with this prefix, without repeats, narrowest first."""
        widths = set()
        for name in self.instructions:
            if name.startswith(prefix):
                bits = re.search(r"\.(?:U|S)?(8|16|64|128)(?:\.|$)", name)
                widths.add(int(bits.group(1)) if bits else 32)
        return sorted(widths)


@lru_cache(maxsize=64)
def _dump(cubin: bytes, option: str) -> str:
    """Return what the `cuobjdump` that comes with Triton prints of machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout


def listing(kernel: CompiledKernel) -> str:
    """Return the machine code of a CUDA kernel, an instruction a line."""
    return _dump(kernel.asm["cubin"], "-sass")


def disassemble(kernel: CompiledKernel) -> Sass:
    """Read the machine code of a CUDA kernel."""
    code, usage = listing(kernel), _dump(kernel.asm["cubin"], "-res-usage")
    names = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code, re.MULTILINE)
    # What a thread spills is in its stack frame: Triton's kernels have no other use for one.
    registers, stack, local = (
        int(re.search(rf"{field}:(\d+)", usage).group(1))  # type: ignore[union-attr]
        for field in ("REG", "STACK", "LOCAL")
    )
    return Sass(Counter(name for name in names if name != "NOP"), registers, stack + local)
