"""Kernels written by hand in PTX, to see what the executor makes of single instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx import Counts, Options, launch
from ptx.global_memory import Span

_DECLARATIONS = """
.reg .pred %p, %q; .reg .b16 %h, %g; .reg .b32 %i, %t, %n, %s, %w; .reg .b64 %at, %offset, %address;
"""


def span(array: NDArray[Any]) -> Span:
    """Bytes of an array."""
    return Span(array.ctypes.data, array.nbytes)


def entry(body: str, parameters: int, threads: int = 32, declarations: str = "") -> str:
    """Module with one kernel, whose parameters p0, p1, … are addresses."""
    named = ", ".join(f".param .u64 p{k}" for k in range(parameters))
    return f".visible .entry test({named})\n.reqntid {threads}\n{{ {_DECLARATIONS} {declarations} {body}\nret;\n}}"


def run(
    body: str,
    *arrays: NDArray[Any],
    threads: int = 32,
    grid: Sequence[int] = (1,),
    shared: int = 0,
    declarations: str = "",
    options: Options | None = None,
) -> Counts:
    """Execute a kernel whose parameters are arrays."""
    text = entry(body, len(arrays), threads, declarations)
    addresses = [array.ctypes.data for array in arrays]
    return launch(text, grid, addresses, [span(array) for array in arrays], shared, options)


def compute(instruction: str, out: str, *inputs: NDArray[Any], options: Options | None = None) -> NDArray[Any]:
    """Execute instructions of registers %a, %b, … with numbers of inputs, one a thread, and return register %y.

    Args:
        instruction: text, with its semicolons.
        out: NumPy's type of the result.
        inputs: arrays of equal length.
        options: what is checked.
    """
    n = len(inputs[0])
    y = np.zeros(n, out)
    registers = "".join(f".reg .b{8 * x.itemsize} %{name};" for name, x in zip("abcd", inputs, strict=False))
    loads = ["mov.u32 %t, %tid.x; mov.u32 %i, %ctaid.x; mad.lo.s32 %i, %i, 32, %t;"]
    for k, (name, x) in enumerate(zip("abcd", inputs, strict=False)):
        loads.append(
            f"ld.param.u64 %at, [p{k}]; mul.wide.u32 %offset, %i, {x.itemsize}; add.s64 %address, %at, %offset;"
            f"ld.global.b{8 * x.itemsize} %{name}, [%address];"
        )
    store = (
        f"ld.param.u64 %at, [p{len(inputs)}]; mul.wide.u32 %offset, %i, {y.itemsize}; add.s64 %address, %at, %offset;"
        f"st.global.b{8 * y.itemsize} [%address], %y;"
    )
    registers += f".reg .b{8 * y.itemsize} %y;"
    assert n % 32 == 0
    run(" ".join(loads) + instruction + store, *inputs, y, grid=(n // 32,), declarations=registers, options=options)
    return y
