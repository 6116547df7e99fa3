"""Name the neurons in a store by other concepts or another similarity, without touching an image."""

from __future__ import annotations

import argparse
from pathlib import Path

from lwta.cli.naming import add_naming, find_concepts, open_clip, write
from lwta.dissection.store.opening import open_store, recorded_clip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lwta relabel`."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `lwta dissect --store` filled")
    parser.add_argument("--name", help="of the network in the store (the only one)")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="names (all that were recorded)")
    parser.add_argument("--probe", type=Path, metavar="PATH", help="the images, if the report is to show them")
    add_naming(parser, clip=None)


def run(arguments: argparse.Namespace) -> int:
    """Relabel; returns the exit code."""
    clip = open_clip(arguments.clip or recorded_clip(arguments.store, arguments.name))
    dissection = open_store(
        arguments.store,
        concepts=find_concepts(arguments.concepts, clip),
        name=arguments.name,
        clip=clip,
        similarity=arguments.similarity,
        layers=arguments.layers,
        probe=arguments.probe,
    )
    write(dissection, arguments)
    return 0
