"""Where findings go: to the terminal, to a file, or as JSON to another program."""

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
    """The option ``--json``; `tell` and `write_json` write there."""
    parser.add_argument("--json", metavar="FILE", help="write the findings there; - for standard output alone")


def tell(findings: Any, text: object, json_file: str | None) -> None:
    """Print the text, unless standard output is for JSON alone, and write the findings if they were asked for."""
    if json_file != STANDARD_OUTPUT:
        say(text)
    write_json(findings, json_file)


def say(text: object) -> None:
    """Print the text with its control characters escaped, line feeds excepted: names may come from anywhere."""
    print(printable_lines(str(text)))


def write_json(findings: Any, json_file: str | None) -> None:
    """Print the findings as JSON, or write them to a file; None: neither."""
    if json_file == STANDARD_OUTPUT:
        print(as_json(findings), end="")
    elif json_file is not None:
        write_json_file(findings, json_file)


@contextmanager
def told_elsewhere(json_file: str | None) -> Iterator[None]:
    """While the context lasts, what is printed goes to standard error if standard output is for JSON alone."""
    with redirect_stdout(sys.stderr) if json_file == STANDARD_OUTPUT else nullcontext():
        yield
