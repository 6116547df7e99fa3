"""What stops a command from outside: Ctrl-C, and the signals that schedulers and closed terminals send."""

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
    """SIGTERM or SIGHUP, which end a command as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """While the context lasts, SIGTERM and SIGHUP raise `Stopped` in the main thread; afterwards all is as before.

    Signals that are ignored, as under nohup, or that somebody handles already are left alone. After the first signal,
    further ones change nothing, since a scheduler may send it to a launcher and to its processes. A process that was
    forked, such as one that reads images, ends by the signal as it would have without this context.
    """
    process, main_thread = os.getpid(), threading.current_thread() is threading.main_thread()
    ours = [one for one in _SIGNALS if main_thread and signal.getsignal(one) is signal.SIG_DFL]

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        _expect_ends_of_workers()
        raise Stopped(signum)

    try:
        for one in ours:
            signal.signal(one, stop)
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _expect_ends_of_workers() -> None:
    """Take PyTorch's handler off, which raises an error for each process that reads images and ends by the signal, too.

    It is not put back: they may end at any later time, and loaders notice the loss of a process without it.
    """
    end = getattr(signal, "SIGCHLD", None)
    if end is not None and getattr(signal.getsignal(end), "__module__", "") == _WORKERS:
        signal.signal(end, signal.SIG_DFL)


@contextmanager
def hint_when_stopped(how: Callable[[], str]) -> Iterator[None]:
    """If the command is stopped within the context, `report_stop` adds what ``how`` returns at that moment."""
    try:
        yield
    except BaseException as error:
        stop = stop_behind(error)
        if stop is not None:
            stop.args = (how(),)
        raise


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The stop that this error is, or that it covers: worker processes that end with the command raise errors too."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def report_stop(command: str, stop: KeyboardInterrupt) -> int:
    """Say that the command was stopped, once for all of torchrun's processes; returns the exit code."""
    if launched().rank == 0:
        print(f"\nlwta {command}: stopped" + "".join(f"; {how}" for how in stop.args if how), file=sys.stderr)
    return 128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
