"""Output of findings: to the terminal, to a file, or as JSON to another program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from lwta.support.exports import as_json
from lwta.support.exports import write_json as write_json_file
from lwta.support.text import printable_lines

STANDARD_OUTPUT = "-"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``, which `emit` and `write_json` follow."""
    parser.add_argument("--json", metavar="FILE", help="write the findings there; - for standard output alone")


def emit(findings: Any, text: object, json_file: str | None) -> None:
    """Print findings as text, unless standard output is for JSON alone, and write them as JSON if that was asked for.

    Args:
        findings: the findings, as types that JSON can hold.
        text: the findings as text.
        json_file: value of ``--json``.
    """
    if json_file != STANDARD_OUTPUT:
        say(text)
    write_json(findings, json_file)


def say(text: object) -> None:
    """Print a text with its control characters escaped, except line feeds, as names may come from anywhere."""
    print(printable_lines(str(text)))


def write_json(findings: Any, json_file: str | None) -> None:
    """Print findings as JSON, or write them to a file.

    Args:
        findings: the findings, as types that JSON can hold.
        json_file: file; "-" prints, None does nothing.
    """
    if json_file == STANDARD_OUTPUT:
        print(as_json(findings), end="")
    elif json_file is not None:
        write_json_file(findings, json_file)


@contextmanager
def stdout_to_stderr_if_json(json_file: str | None) -> Iterator[None]:
    """Context in which everything printed goes to standard error, if standard output is for JSON alone."""
    with redirect_stdout(sys.stderr) if json_file == STANDARD_OUTPUT else nullcontext():
        yield
