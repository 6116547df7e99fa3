"""Options shared by the subcommands: encoder, concepts, similarity, store, outputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lwta.cli._output import add_json, say, stdout_to_stderr_if_json, write_json
from lwta.dissection import SIMILARITIES, ClipEncoder, Concepts, Dissection, Embeddings, open_store
from lwta.dissection.similarity import AUTO, Linear, Similarity
from lwta.dissection.store.opening import recorded_clip
from lwta.dissection.words.encoder import Encoder
from lwta.support.processes import own_device


def add_naming(parser: argparse.ArgumentParser, *, clip: str | None) -> None:
    """Add the options of encoder, concepts and similarity.

    Args:
        parser: parser of the subcommand.
        clip: default encoder; None for the store's own.
    """
    default = "%(default)s" if clip else "the store's own"
    parser.add_argument(
        "--clip",
        "-c",
        default=clip,
        metavar="NAME",
        help=f"'tiny', MODEL/PRETRAINED of open_clip such as ViT-B-16/openai, or an NPZ of embeddings ({default})",
    )
    parser.add_argument(
        "--concepts",
        metavar="FILE",
        help="text file, a concept a line, or 'imagenet', 'imagenet21k', 'tiny' (those of an NPZ; tiny for 'tiny')",
    )
    names = ", ".join((AUTO, *SIMILARITIES))
    parser.add_argument("--similarity", default=AUTO, metavar="NAME", help=f"labeler: {names} (%(default)s)")
    parser.add_argument("--words", type=int, metavar="N", help="most words of a linear explanation, 1 to 10 (5)")
    parser.add_argument("--no-abstain", action="store_true", help="label every neuron, also where no word fits")


def add_store(parser: argparse.ArgumentParser, *, as_option: bool = False) -> None:
    """Add the options that choose a recorded dissection, which `open_dissection` reads.

    Args:
        parser: parser of the subcommand.
        as_option: make the store an option, ``--store``, in place of the first argument.
    """
    what = "folder that `lwta dissect --store` filled"
    if as_option:
        parser.add_argument("--store", type=Path, required=True, metavar="FOLDER", help=what)
    else:
        parser.add_argument("store", type=Path, metavar="STORE", help=what)
    parser.add_argument("--name", help="name of the network in the store (the only one)")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="names, or fc:softmax and the like (all recorded)")
    parser.add_argument("--probe", type=Path, metavar="PATH", help="the images, if they are to be shown")
    parser.add_argument("--device", help="device that computes similarities (a GPU if there is one)")
    add_naming(parser, clip=None)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options of the files that `write` writes."""
    parser.add_argument("--out", type=Path, metavar="CSV", help="file for the labels, a neuron a line")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="folder for a page with every neuron")
    add_json(parser)


def open_clip(name: str) -> Encoder:
    """Open the encoder that ``--clip`` names; errors are those of `ClipEncoder` and `Embeddings.load`."""
    return Embeddings.load(name) if name.endswith(".npz") else ClipEncoder(name)


def find_concepts(name: str | None, clip: Encoder) -> Concepts:
    """Return the concepts that ``--concepts`` names or, if it is not given, those that belong to the encoder.

    Args:
        name: value of the option, or None.
        clip: the encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the option is not given and the encoder has no concepts of its own, or the file holds none.
    """
    if name is not None:
        return Concepts.of(name)
    if isinstance(clip, Embeddings):
        return Concepts(clip.concepts, "the embeddings")
    if isinstance(clip, ClipEncoder) and clip.name == "tiny":
        return Concepts.tiny()
    raise ValueError("--concepts must be given: a text file with a concept a line, 'imagenet' or 'imagenet21k'")


def find_labeler(arguments: argparse.Namespace) -> str | Callable[[], Similarity]:
    """Return the similarity that ``--similarity`` and ``--words`` ask for.

    Raises:
        ValueError: ``--words`` is out of range, or given with a similarity that chooses one word.
    """
    if arguments.words is None:
        return str(arguments.similarity)
    if arguments.similarity not in (AUTO, Linear.name):
        raise ValueError(f"--words is for --similarity linear, {arguments.similarity!r} chooses one word")
    Linear(arguments.words)
    return partial(Linear, arguments.words)


def open_dissection(arguments: argparse.Namespace) -> Dissection:
    """Open the recorded dissection that the options of `add_store` name; errors are those of `open_store`."""
    clip = open_clip(arguments.clip or recorded_clip(arguments.store, arguments.name))
    return open_store(
        arguments.store,
        concepts=find_concepts(arguments.concepts, clip),
        name=arguments.name,
        clip=clip,
        similarity=find_labeler(arguments),
        abstain=not arguments.no_abstain,
        layers=arguments.layers,
        probe=arguments.probe,
        device=own_device(arguments.device),
    )


def write(dissection: Dissection, arguments: argparse.Namespace) -> None:
    """Write the files that were asked for; without any, print the first neurons of each layer."""
    with stdout_to_stderr_if_json(arguments.json):
        if arguments.out is not None:
            dissection.to_csv(arguments.out)
            say(f"Every neuron as a table: {arguments.out}")
        if arguments.report is not None:
            page = dissection.to_report(arguments.report)
            say(f"Every neuron with its images: {page}  (open it in a browser)")
    write_json(labels_of(dissection), arguments.json)
    if arguments.out is None and arguments.report is None and arguments.json is None:
        say(dissection)


def labels_of(dissection: Dissection) -> dict[str, list[dict[str, Any]]]:
    """Return the labels of every layer as types that JSON can hold."""
    return {layer: [label.to_dict() for label in dissection.labels(layer)] for layer in dissection.layers}
