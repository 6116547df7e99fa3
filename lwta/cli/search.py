"""Find the neurons in a store that are most similar to a text, or what stands out in all their labels.

Examples:
  lwta search STORE "striped fur"             # ten neurons of all layers
  lwta search STORE dog --n 3 --layers fc     # three of one layer
  lwta search STORE --audit                   # concepts shared by layers, carried by none, divided within a block
  lwta search STORE dog --json -              # for another program
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lwta.cli._options import add_store, open_dissection
from lwta.cli._output import add_json, emit
from lwta.dissection.labels.search import Found
from lwta.support.tables import Column, text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta search`."""
    add_store(parser)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="a word or phrase that CLIP can encode")
    parser.add_argument("--n", type=int, default=10, metavar="N", help="how many neurons to find (%(default)s)")
    parser.add_argument("--audit", action="store_true", help="show what stands out in the labels, instead of a text")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search or audit, and return the exit code."""
    if (arguments.text is None) != arguments.audit:
        raise ValueError("either a TEXT or --audit must be given")
    dissection = open_dissection(arguments)
    if arguments.audit:
        audit = dissection.audit()
        findings, text = audit.to_dict(), audit.table()
    else:
        found = dissection.search(arguments.text, arguments.n)
        findings, text = {"text": arguments.text, "neurons": [neuron.to_dict() for neuron in found]}, _table(found)
    emit(findings, text, arguments.json)
    return 0


def _table(found: Sequence[Found]) -> str:
    """Return the found neurons as a table."""
    if not found:
        return "No neuron was found: all are dead."
    columns = [
        Column("layer", [neuron.layer for neuron in found]),
        Column("neuron", [str(neuron.neuron) for neuron in found], right=True),
        Column("score", [f"{neuron.score:.3f}" for neuron in found], right=True),
        Column("its concept", [neuron.label_text() for neuron in found]),
        Column("r", ["–" if neuron.r != neuron.r else f"{neuron.r:.2f}" for neuron in found], right=True),
    ]
    return text_table(columns)
