"""Execution of compiled Triton kernels on the CPU, with checks that a GPU does not make.

Triton compiles for NVIDIA's sm_80 and sm_90; the PTX that comes out is executed by NumPy, all threads of many programs
in lockstep. What this proves, and what it does not, is in docs/kernels.md. Tests and benchmarks use it; the library
does not.

    with executing("sm_90") as session:
        y = launch_forward(x, 8, "argmax", 1.0, 1, None)  # tensors on the CPU
    session.launches[0].counts.instructions()

The way of a kernel: `parsing` → `program` (with `instructions`) → `machine` (with `global_memory`, `shared_memory`,
`groups` and `accumulators` of asynchronous operations, and `counting`); `launch` runs a grid, `driver` stands in for
Triton's.
"""

from ptx.counting import Counts
from ptx.driver import Launched, Session, executing
from ptx.errors import PtxError
from ptx.launch import launch
from ptx.machine import Options

__all__ = ["Counts", "Launched", "Options", "PtxError", "Session", "executing", "launch"]
