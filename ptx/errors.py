"""What the executor raises."""


class PtxError(RuntimeError):
    """Fault of a program under execution, or an instruction that the executor does not know."""
