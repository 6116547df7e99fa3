"""Say in words what each neuron of a network stands for.

Examples:
  lwta dissect --model timm:resnet18 --list-layers               # what can be dissected
  lwta dissect --model timm:resnet18 --layers layer4 fc --probe photos/ --clip ViT-B-16/openai --concepts imagenet
  lwta dissect --model timm:resnet18 --layers fc:identity --probe photos/  # logits as they are, without a softmax
  lwta dissect --model run --layers '*act*' --probe photos.zip --clip embeddings.npz --store store --out labels.csv
  torchrun --nproc-per-node=4 -m lwta dissect … --store store    # several processes share the work
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from lwta.cli._networks import add_model, find_function, find_model
from lwta.cli._options import add_naming, add_outputs, find_concepts, find_labeler, open_clip, write
from lwta.cli._stopping import hint_when_stopped
from lwta.competition import Competition
from lwta.dissection import Layer, dissect
from lwta.dissection.recording.activations import POOLS
from lwta.dissection.recording.precision import PRECISIONS
from lwta.support.processes import launched, own_device, process_group
from lwta.support.tables import Column, text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta dissect`."""
    add_model(parser)
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="names, or patterns such as 'blocks.*.mlp.act'; with a function of the outputs behind a colon, such as "
        "fc:softmax, fc:sigmoid or fc:identity (softmax for the logits of a classification head)",
    )
    parser.add_argument("--list-layers", action="store_true", help="print the layers that can be dissected, and stop")
    parser.add_argument(
        "--probe", type=Path, metavar="PATH", help="folder, zip or tar of images, or shards-{000..127}.tar"
    )
    add_naming(parser, clip="tiny")
    add_outputs(parser)
    parser.add_argument("--pool", default="auto", choices=POOLS, help="how positions become one number (%(default)s)")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="record there; a rerun goes on where it stopped")
    parser.add_argument("--name", help="name of the network in the store (that of its class)")
    parser.add_argument("--shard-images", type=int, default=4096, metavar="N", help="images in a shard (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at a time (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampled winners (%(default)s)")
    parser.add_argument("--draws", type=int, default=1, metavar="N", help="draws to average over (%(default)s)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="precision of the networks (bfloat16 on GPUs)"
    )
    parser.add_argument("--compile", action="store_true", help="run the network by torch.compile")
    parser.add_argument("--device", help="device to compute on (a GPU if there is one)")


def run(arguments: argparse.Namespace) -> int:
    """Dissect, and return the exit code."""
    found = find_model(arguments.model, arguments.checkpoint, weights=not arguments.list_layers)
    if arguments.list_layers:
        print(_candidates(found.model))
        return 0
    if arguments.layers is None:
        raise ValueError("--layers must name the layers to dissect; --list-layers prints them")
    if arguments.probe is None:
        raise ValueError("--probe must be a folder, a zip or tar archive of images, or shards")
    if launched().world_size > 1 and arguments.store is None:
        raise ValueError("--store must be given: several processes share their work through it")
    clip = open_clip(arguments.clip)
    transform = find_function("--transform", arguments.transform) if arguments.transform else found.transform
    with process_group() as group:
        with hint_when_stopped(lambda: _how_to_go_on(arguments.store)):
            dissection = dissect(
                found.model,
                match_layers(found.model, arguments.layers),
                arguments.probe,
                clip=clip,
                concepts=find_concepts(arguments.concepts, clip),
                similarity=find_labeler(arguments),
                abstain=not arguments.no_abstain,
                pool=arguments.pool,
                transform=transform,
                batch_size=arguments.batch_size,
                workers=arguments.workers,
                seed=arguments.seed,
                device=own_device(arguments.device),
                store=arguments.store,
                name=arguments.name,
                shard_images=arguments.shard_images,
                precision=arguments.precision,
                draws=arguments.draws,
                compile=arguments.compile,
            )
        if group.rank == 0:
            write(dissection, arguments)
    return 0


def _how_to_go_on(store: Path | None) -> str:
    """Return the hint for a command that was stopped."""
    if store is None:
        return ""
    return f"{store} keeps the shards that are complete, and the same command goes on from there"


def match_layers(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the keys of the layers that the patterns match, in the order of the patterns, each once.

    Args:
        model: the network.
        patterns: glob patterns, each with a function of the outputs behind a colon or without; one without ``*``, ``?``
            and ``[`` is returned as it is.

    Raises:
        ValueError: a pattern matches no module.
    """
    names = [name for name, _ in model.named_modules() if name]
    matched: dict[str, None] = {}
    for pattern in patterns:
        found = [pattern]
        if set(pattern) & set("*?["):
            wanted = Layer.of(pattern, names)
            found = [replace(wanted, name=name).key for name in names if fnmatchcase(name, wanted.name)]
        if not found:
            raise ValueError(f"--layers: no layer fits {pattern!r}; --list-layers prints them")
        matched.update(dict.fromkeys(found))
    return list(matched)


def _candidates(model: nn.Module) -> str:
    """Return a table of the layers to dissect: competitive layers, and all others that have no layers in them."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if name and (isinstance(module, Competition) or not any(True for _ in module.children()))
    ]
    return text_table(
        [
            Column("layer", [name for name, _ in layers]),
            Column("type", [type(module).__name__ for _, module in layers]),
            Column(
                "competitors",
                [str(module.competitors) if isinstance(module, Competition) else "–" for _, module in layers],
                right=True,
            ),
        ]
    )
