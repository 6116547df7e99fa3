"""What each instruction does: a function that makes the step of one instruction of a program, by its name."""

from __future__ import annotations

from ptx.instructions import arithmetic, choice, conversion, copies, matrices, memory, warps, wgmma
from ptx.program import Handler

HANDLERS: dict[str, Handler] = {
    **arithmetic.HANDLERS,
    **choice.HANDLERS,
    **conversion.HANDLERS,
    **copies.HANDLERS,
    **matrices.HANDLERS,
    **memory.HANDLERS,
    **warps.HANDLERS,
    **wgmma.HANDLERS,
}
"""By name; each raises PtxError or KeyError for a form of the instruction that it does not know."""
