"""Command line: one file per subcommand, with `add_arguments(parser)`, and `run(arguments)` that returns the exit code.

Files whose names begin with an underscore hold what several subcommands use.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lwta.cli import demo, dissect, doctor, evaluate, explain, relabel, report, search, train
from lwta.cli._stopping import report_stop, stop_behind, stopped_by_signals

_COMMANDS = {
    "demo": demo,
    "train": train,
    "dissect": dissect,
    "relabel": relabel,
    "explain": explain,
    "report": report,
    "search": search,
    "evaluate": evaluate,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        Exit code: 0 on success, 2 on bad usage or input, 1 on any other error; 130 on Ctrl-C, 143 on SIGTERM and 129 on
        SIGHUP, with a line on standard error.
    """
    parser = argparse.ArgumentParser(
        prog="lwta", description="Vision networks that can be read: competition, then dissection."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").split("\n", 1)[0]
        subparser = subparsers.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader closed the pipe
        sys.stderr.close()
        return 1
    except (ValueError, TypeError, FileNotFoundError) as error:
        parser.exit(2, f"lwta {arguments.command}: {error}\n")
    except (OSError, RuntimeError) as error:
        parser.exit(1, f"lwta {arguments.command}: {error}\n")


def _run(arguments: argparse.Namespace) -> int:
    """Run the command until it ends or is stopped, and return the exit code."""
    with stopped_by_signals():
        try:
            return _COMMANDS[arguments.command].run(arguments)
        except (Exception, KeyboardInterrupt) as error:
            stop = stop_behind(error)
            if stop is None:
                raise
            return report_stop(arguments.command, stop)
