"""What is said to somebody who uses the command line wrongly."""

from __future__ import annotations

import pytest

from lwta.cli import main


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
