"""Score the dissection in a store: how readable every layer is, how true the labels are, how output neurons are named.

Examples:
  lwta evaluate STORE                                            # every layer
  lwta evaluate STORE --class-names classes.txt --output-layer fc  # are output neurons named as what they are?
  lwta evaluate LWTA_STORE --compare RELU_STORE                  # two networks in one table
  lwta evaluate STORE --json scores.json                         # "-" prints it
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lwta.cli._options import add_store, open_dissection
from lwta.cli._output import add_json, emit
from lwta.dissection.scoring import Scores, compare
from lwta.support.text import read_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta evaluate`."""
    add_store(parser)
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="STORE",
        help="further stores with one network each; the other options hold for all",
    )
    parser.add_argument(
        "--class-names", type=Path, metavar="FILE", help="names of the output neurons in their order, one a line"
    )
    parser.add_argument(
        "--output-layer", metavar="LAYER", help="their layer (the last without competition of as many neurons)"
    )
    parser.add_argument(
        "--held-out", type=float, default=0.3, help="share of the images to check labels on (%(default)s)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score, and return the exit code."""
    names = None if arguments.class_names is None else read_lines(arguments.class_names)
    scores: dict[str, Scores] = {}
    for store in (arguments.store, *arguments.compare):
        dissection = open_dissection(argparse.Namespace(**{**vars(arguments), "store": store}))
        found = dissection.scores(names, arguments.output_layer, arguments.held_out)
        scores[_unused(store.name or str(store), scores)] = found
    if len(scores) > 1:
        emit({name: found.to_dict() for name, found in scores.items()}, compare(scores), arguments.json)
    else:
        (found,) = scores.values()
        emit(found.to_dict(), found, arguments.json)
    return 0


def _unused(name: str, used: dict[str, Scores]) -> str:
    """Return the name, with a number behind it if it is used already."""
    candidates = [name, *(f"{name} {number}" for number in range(2, len(used) + 2))]
    return next(candidate for candidate in candidates if candidate not in used)
