"""Score the dissection in a store: how readable every layer is, how far labels can be trusted, beside controls.

Examples:
  lwta evaluate STORE                                            # every layer
  lwta evaluate STORE --class-names classes.txt --output-layer fc  # are output neurons named as what they are?
  lwta evaluate LWTA_STORE --compare RELU_STORE                  # two networks in one table
  lwta evaluate STORE --control untrained --model run --probe photos/  # beside the same network without training
  lwta evaluate STORE --no-controls                              # sooner, but with nothing to compare with
  lwta evaluate STORE --json scores.json                         # "-" prints it
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from lwta.cli._networks import add_model, find_function, find_model
from lwta.cli._options import add_store, find_labeler, open_dissection
from lwta.cli._output import add_json, emit
from lwta.dissection import Dissection, dissect
from lwta.dissection.scoring import Scores, compare
from lwta.models.untrained import untrained
from lwta.support.processes import own_device
from lwta.support.text import read_lines

UNTRAINED = "untrained"


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
    controls = parser.add_mutually_exclusive_group()
    controls.add_argument(
        "--control",
        nargs="+",
        default=[],
        metavar="STORE",
        help="stores of networks to compare labels with, or 'untrained': the network itself without its training, for "
        "which --model and --probe must be given; it is recorded in the store, beside the trained one",
    )
    controls.add_argument(
        "--no-controls", action="store_true", help="leave out controls, which take twice the time of labelling"
    )
    add_model(parser, required=False)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score, and return the exit code."""
    names = None if arguments.class_names is None else read_lines(arguments.class_names)
    scores: dict[str, Scores] = {}
    controls: dict[str, Dissection] = {}
    for control in arguments.control:
        if control == UNTRAINED:
            controls[UNTRAINED] = _untrained(arguments)
        else:
            controls[_unused(Path(control).name or control, controls)] = _open(arguments, Path(control))
    for store in (arguments.store, *arguments.compare):
        dissection = _open(arguments, store)
        labeler = find_labeler(arguments)
        found = dissection.scores(names, arguments.output_layer, labeler, controls, not arguments.no_controls)
        scores[_unused(store.name or str(store), scores)] = found
    if len(scores) > 1:
        emit({name: found.to_dict() for name, found in scores.items()}, compare(scores), arguments.json)
    else:
        (found,) = scores.values()
        emit(found.to_dict(), found, arguments.json)
    return 0


def _untrained(arguments: argparse.Namespace) -> Dissection:
    """Dissect the network of a store as it was before training, and record that in the same store."""
    if arguments.model is None or arguments.probe is None:
        raise ValueError("--control untrained needs the network and the images: give --model and --probe")
    trained, found = _open(arguments, arguments.store), find_model(arguments.model, weights=False)
    transform = find_function("--transform", arguments.transform) if arguments.transform else found.transform
    recording = trained.recording
    return dissect(
        untrained(found.model),
        list(recording.chosen.values()),
        arguments.probe,
        clip=trained.clip,
        concepts=trained.concepts,
        similarity=find_labeler(arguments),
        pool=recording.pool,
        transform=transform,
        store=arguments.store,
        name=f"{arguments.name or type(found.model).__name__}-{UNTRAINED}",
        device=own_device(arguments.device),
    )


def _open(arguments: argparse.Namespace, store: Path) -> Dissection:
    """Open one of the stores with the options of all."""
    return open_dissection(argparse.Namespace(**{**vars(arguments), "store": store}))


def _unused(name: str, used: Mapping[str, object]) -> str:
    """Return the name, with a number behind it if it is used already."""
    candidates = [name, *(f"{name} {number}" for number in range(2, len(used) + 2))]
    return next(candidate for candidate in candidates if candidate not in used)
