"""The command line: one file per subcommand, with `add_arguments(parser)` and `run(arguments)`, its exit code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lwta.cli import demo, train

_COMMANDS = {"demo": demo, "train": train}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        Exit code: 0 on success, 1 on bad input, 2 on bad usage, 130 on Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="lwta", description="Vision networks that can be read: competition, then dissection."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").split("\n", 1)[0]
        subparser = subparsers.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    try:
        return _COMMANDS[arguments.command].run(arguments)
    except (ValueError, OSError) as error:
        parser.exit(1, f"lwta {arguments.command}: {error}\n")
    except KeyboardInterrupt:
        return 130
