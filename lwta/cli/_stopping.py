"""Stopping of a command from outside: by Ctrl-C, and by the signals that schedulers and closed terminals send."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lwta.support.processes import launched

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_WORKERS = "torch.utils.data._utils.signal_handling"


class Stopped(KeyboardInterrupt):
    """Exception for SIGTERM and SIGHUP, which end a command as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP raise `Stopped` in the main thread; afterwards all is as before.

    Signals that are ignored, as under nohup, or that have a handler already are left alone. After the first signal,
    further ones change nothing, since a scheduler may send it to a launcher and to its processes. A process that was
    forked, such as one that reads images, ends by the signal as it would have without this context.
    """
    process, main_thread = os.getpid(), threading.current_thread() is threading.main_thread()
    ours = [number for number in _SIGNALS if main_thread and signal.getsignal(number) is signal.SIG_DFL]

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        for number in ours:
            signal.signal(number, signal.SIG_IGN)
        _expect_ends_of_workers()
        raise Stopped(signum)

    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _expect_ends_of_workers() -> None:
    """Remove PyTorch's handler, which raises an error for each reading process that the signal ends too.

    It is not put back: those processes may end at any later time, and loaders notice the loss of one without it.
    """
    end = getattr(signal, "SIGCHLD", None)
    if end is not None and getattr(signal.getsignal(end), "__module__", "") == _WORKERS:
        signal.signal(end, signal.SIG_DFL)


@contextmanager
def hint_when_stopped(how: Callable[[], str]) -> Iterator[None]:
    """Context in which a stop of the command gets a hint, the text that ``how`` returns; `report_stop` prints it."""
    try:
        yield
    except BaseException as error:
        stop = stop_behind(error)
        if stop is not None:
            stop.args = (how(),)
        raise


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the stop that an error is or hides, or None: worker processes that are stopped too raise errors."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def report_stop(command: str, stop: KeyboardInterrupt) -> int:
    """Print that the command was stopped, once for all of torchrun's processes, and return the exit code."""
    if launched().rank == 0:
        print(f"\nlwta {command}: stopped" + "".join(f"; {how}" for how in stop.args if how), file=sys.stderr)
    return 128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
