"""Score the dissection in a store: how readable every layer is, how true the labels are, how output neurons are named.

Examples:
  lwta evaluate STORE                                            # every layer
  lwta evaluate STORE --class-names classes.txt --output-layer fc  # are output neurons named as what they are?
  lwta evaluate LWTA_STORE --compare RELU_STORE                  # two networks in one table
  lwta evaluate STORE --control UNTRAINED_STORE                  # the same network without training as a control
  lwta evaluate STORE --json scores.json                         # "-" prints it
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from lwta.cli._options import add_store, find_labeler, open_dissection
from lwta.cli._output import add_json, emit
from lwta.dissection import Dissection
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
        "--control",
        type=Path,
        nargs="+",
        default=[],
        metavar="STORE",
        help="stores of networks whose labels should say less, such as one that `lwta dissect --untrained` filled",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score, and return the exit code."""
    names = None if arguments.class_names is None else read_lines(arguments.class_names)
    scores: dict[str, Scores] = {}
    controls: dict[str, Dissection] = {}
    for store in arguments.control:
        controls[_unused(store.name or str(store), controls)] = _open(arguments, store)
    for store in (arguments.store, *arguments.compare):
        dissection = _open(arguments, store)
        found = dissection.scores(names, arguments.output_layer, find_labeler(arguments), controls)
        scores[_unused(store.name or str(store), scores)] = found
    if len(scores) > 1:
        emit({name: found.to_dict() for name, found in scores.items()}, compare(scores), arguments.json)
    else:
        (found,) = scores.values()
        emit(found.to_dict(), found, arguments.json)
    return 0


def _open(arguments: argparse.Namespace, store: Path) -> Dissection:
    """Open one of the stores with the options of all."""
    return open_dissection(argparse.Namespace(**{**vars(arguments), "store": store}))


def _unused(name: str, used: Mapping[str, object]) -> str:
    """Return the name, with a number behind it if it is used already."""
    candidates = [name, *(f"{name} {number}" for number in range(2, len(used) + 2))]
    return next(candidate for candidate in candidates if candidate not in used)
