"""Commands that are stopped: Ctrl-C, SIGTERM and SIGHUP say the same and end in order."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lwta.cli
from lwta.cli import main
from lwta.cli._stopping import hint_when_stopped
from tests.support.command_line import started

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS = pytest.mark.parametrize("signum", EXIT_CODES)


@pytest.fixture(autouse=True)
def _no_signal_is_ignored() -> Iterator[None]:
    """Whoever started the tests may ignore some: a shell does for commands in its background, nohup for SIGHUP."""
    before = {signum: signal.getsignal(signum) for signum in EXIT_CODES}
    for signum in EXIT_CODES:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Runs `lwta doctor`, which does something else here; its exit code."""

    def running(action: Callable[[], object]) -> int:
        def run(arguments: argparse.Namespace) -> int:
            action()
            return 0

        monkeypatch.setattr(lwta.cli.doctor, "run", run)
        return main(["doctor"])

    return running


def handlers() -> list[object]:
    return [signal.getsignal(signum) for signum in EXIT_CODES]


@SIGNALS
def test_every_signal_is_told_and_the_handlers_come_back(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], signum: int
) -> None:
    before = handlers()
    assert command(lambda: signal.raise_signal(signum)) == EXIT_CODES[signal.Signals(signum)]
    assert capsys.readouterr().err == "\nlwta doctor: stopped\n"
    assert handlers() == before
    with pytest.raises(SystemExit, match="2"):
        command(lambda: int("x"))
    assert handlers() == before


def test_what_can_be_gone_on_with_is_told_though_another_error_covers_the_stop(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The processes that read images get the signal, too, and their end is an error of PyTorch's."""

    def stopped() -> None:
        with hint_when_stopped(lambda: "the same command goes on"):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                raise RuntimeError("DataLoader worker is killed by signal: Terminated.")

    assert command(stopped) == 143
    assert capsys.readouterr().err == "\nlwta doctor: stopped; the same command goes on\n"


def test_a_second_signal_does_not_disturb_the_end(command: Callable[..., int]) -> None:
    def twice() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)

    assert command(twice) == 143


def test_signals_that_are_ignored_or_handled_stay_so(command: Callable[..., int]) -> None:
    """Under nohup, SIGHUP is ignored."""
    seen = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        assert command(lambda: [signal.raise_signal(signum) for signum in (signal.SIGHUP, signal.SIGTERM)]) == 0
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert seen == [1]


def test_other_threads_run_commands_without_handlers(command: Callable[..., int]) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(command(lambda: found.append(handlers()))))
    thread.start()
    thread.join()
    assert found == [handlers(), 0]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_forked_process_ends_by_the_signal_itself(command: Callable[..., int], signum: int) -> None:
    ends = []

    def fork() -> None:
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signum)
                time.sleep(30)
            finally:
                os._exit(1)
        ends.append(os.waitpid(child, 0)[1])

    assert command(fork) == 0
    assert [os.WTERMSIG(end) for end in ends if os.WIFSIGNALED(end)] == [signum]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0)
    for split, number in (("train", 32), ("test", 8)):
        for label in ("a", "b"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for place in range(number):
                image = Image.fromarray(pixels.integers(0, 255, (16, 16, 3), dtype=np.uint8))
                image.save(folder / f"{place}.png")
    return tmp_path / "photos"


def _training(photos: Path, out: Path, *more: str) -> list[str]:
    network = ["--model", "resnet20", "--input-size", "16", "--device", "cpu"]
    recipe = ["--augmentation", "resnet", "--batch-size", "8", "--epochs", "400", "--checkpoint-every", "1"]
    return ["train", str(photos), "--out", str(out), *network, *recipe, *more]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "group"),
    [
        pytest.param(signal.SIGINT, True, id="Ctrl-C in a terminal"),
        pytest.param(signal.SIGTERM, True, id="the end of a job"),
        pytest.param(signal.SIGHUP, False, id="the process alone"),
    ],
)
def test_a_training_that_is_stopped_keeps_its_checkpoint(
    photos: Path, tmp_path: Path, signum: int, group: bool
) -> None:
    """With processes that read images, which get the signal, too, from schedulers and terminals."""
    process = started("lwta", *_training(photos, tmp_path / "run", "--workers", "2"), session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (os.killpg if group else os.kill)(process.pid, signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODES[signal.Signals(signum)], said
    told = f"lwta train: stopped; {tmp_path / 'run'} keeps the last checkpoint, and the same command goes on from there"
    assert said.rstrip().endswith(told)
    assert "Traceback" not in said
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    with pytest.raises(ProcessLookupError):  # no process that reads images is left
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_a_training_that_is_stopped_before_its_first_checkpoint_says_so(photos: Path, tmp_path: Path) -> None:
    command = _training(photos, tmp_path / "run")
    process = started("lwta", *command[:-2], session=True)  # checkpoints after epochs only
    deadline = time.monotonic() + 120
    while not (tmp_path / "run").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "has no checkpoint yet, and the same command begins anew" in said
