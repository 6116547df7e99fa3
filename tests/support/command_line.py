"""The command line as tests use it: in this process and in one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lwta.cli import main
from tests.support.places import ROOT


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that is said to a mistake."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"lwta {argv[0]}: ")
    assert message.count("\n") == 1
    return message


def run_on(stores: Path, command: str, *arguments: str, store: str = "lwta") -> int:
    """Run a command on one of the stores of a folder, with the embeddings beside it; its exit code."""
    return main([command, str(stores / store), *arguments, "--clip", str(stores / "clip.npz")])


def ended_badly(capsys: pytest.CaptureFixture[str], stores: Path, *arguments: str) -> str:
    """What was said when `run_on` ended with code 2."""
    with pytest.raises(SystemExit) as ended:
        run_on(stores, *arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def started(*command: str, session: bool = False, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m command`` with the library that is tested, in a session of its own if that is asked for."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
        # a shell's background job ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
