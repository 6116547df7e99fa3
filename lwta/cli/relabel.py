"""Name the neurons in a store by other concepts or another similarity, without touching an image.

Examples:
  lwta relabel STORE --concepts mine.txt                # other words
  lwta relabel STORE --similarity cos --out labels.csv  # another similarity
  lwta relabel STORE --words 1                          # one word for each neuron instead of up to five
  lwta relabel STORE --no-abstain                       # the closest word also where none fits
  lwta relabel STORE --layers fc --json -               # for another program
"""

from __future__ import annotations

import argparse

from lwta.cli._options import add_outputs, add_store, open_dissection, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta relabel`."""
    add_store(parser)
    add_outputs(parser)


def run(arguments: argparse.Namespace) -> int:
    """Relabel, and return the exit code."""
    write(open_dissection(arguments), arguments)
    return 0
