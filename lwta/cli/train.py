"""Train a network with competition on images in classes; an interrupted run goes on when called again.

Writes a checkpoint, a table of the epochs (and TensorBoard's curves, where that is installed), and the network as a
folder that lwta.load_model reads.

Examples:
  lwta train photos/ --out run --input-size 32                  # photos/train/<class>/*, photos/test/<class>/*
  lwta train cifar10:data --out run --competitors 4 --epochs 30  # CIFAR-10, downloaded into data/
  lwta train photos/ --out run --placement branches --norm-scale 4  # a ResNet in few epochs: the nearest to ReLU
  lwta train photos.zip --out run --model deit_tiny --competitors 24 --recipe deit --amp bfloat16
  torchrun --nproc-per-node N -m lwta train photos/ --out run    # several processes
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from lwta.cli._output import add_json, stdout_to_stderr_if_json, write_json
from lwta.cli._stopping import hint_when_stopped
from lwta.models import create_model, list_models
from lwta.models.config import Placement
from lwta.support.processes import launched
from lwta.training import RECIPES, Recipe, open_images, train
from lwta.training.trainer import CHECKPOINT

_PLACEMENT = "where a residual network competes: in place of every ReLU, or within its branches (%(default)s)"
_NORM_SCALE = "first scale of a residual network's batch norms before a competition (%(default)s)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta train`."""
    parser.add_argument(
        "data", help="folder or zip of train/<class>/* and test/<class>/*, or cifar10:FOLDER, cifar100:, places365:"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--model", default="resnet20", choices=list_models(), help="architecture (%(default)s)")
    parser.add_argument("--competitors", type=int, default=2, help="U; 1 is the ordinary network (%(default)s)")
    parser.add_argument("--input-size", type=int, help="height and width of the images (the architecture's own)")
    parser.add_argument("--fused", action="store_true", help="keep only winners between a perceptron's layers")
    parser.add_argument("--drop-path", type=float, default=0.0, help="largest drop-path rate, of transformers")
    parser.add_argument("--placement", default="everywhere", choices=get_args(Placement), help=_PLACEMENT)
    parser.add_argument("--norm-scale", type=float, default=1.0, metavar="S", help=_NORM_SCALE)
    parser.add_argument("--recipe", default="cifar", choices=list(RECIPES), help="settings to train by (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, order, augmentation and winners (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that read images (%(default)s)")
    parser.add_argument("--device", help="device to train on (a GPU if there is one)")
    parser.add_argument("--amp", choices=("bfloat16", "float16"), help="mixed precision")
    parser.add_argument("--compile", action="store_true", help="run steps through torch.compile")
    parser.add_argument("--draws", type=int, default=6, help="draws of the averaged final evaluation (%(default)s)")
    add_json(parser)
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="also write checkpoints within epochs")
    group = parser.add_argument_group("settings of the recipe to change")
    for name, annotation in get_type_hints(Recipe).items():
        kind, choices = option_type(annotation)
        group.add_argument("--" + name.replace("_", "-"), type=kind, choices=choices, default=argparse.SUPPRESS)


def option_type(annotation: Any) -> tuple[type[int | float | str], tuple[str, ...] | None]:
    """Return type and choices of the option for a setting with this annotation.

    Args:
        annotation: int, float, str, a Literal of strings, or one of these or None; the option cannot set None.

    Raises:
        TypeError: the annotation is another one, for which there is no option yet.
    """
    if get_origin(annotation) in (Union, UnionType):
        alternatives = [alternative for alternative in get_args(annotation) if alternative is not NoneType]
        if len(alternatives) == 1:
            return option_type(alternatives[0])
    if get_origin(annotation) is Literal and all(isinstance(choice, str) for choice in get_args(annotation)):
        return str, get_args(annotation)
    if annotation in (int, float, str):
        return annotation, None
    raise TypeError(f"annotation must be int, float, str, a Literal of strings, or one of these or None: {annotation}")


def run(arguments: argparse.Namespace) -> int:
    """Train, and return the exit code."""
    chosen = vars(arguments)
    settings = {field.name: chosen[field.name] for field in fields(Recipe) if field.name in chosen}
    torch.manual_seed(arguments.seed)
    model = create_model(
        arguments.model,
        arguments.competitors,
        class_names=open_images(arguments.data, "train").classes,
        input_size=arguments.input_size,
        fused=arguments.fused,
        drop_path=arguments.drop_path,
        placement=arguments.placement,
        norm_scale=arguments.norm_scale,
        track_kl=settings.get("kl_weight", RECIPES[arguments.recipe].kl_weight) > 0,
    )
    with hint_when_stopped(lambda: _how_to_go_on(arguments.out)):
        result = train(
            model,
            arguments.data,
            recipe=arguments.recipe,
            out=arguments.out,
            seed=arguments.seed,
            workers=arguments.workers,
            device=arguments.device,
            amp=arguments.amp,
            compile=arguments.compile,
            draws=arguments.draws,
            checkpoint_every=arguments.checkpoint_every,
            **settings,
        )
    with stdout_to_stderr_if_json(arguments.json):
        for name, found in result.evaluations.items():
            print(f"{name:8}  top-1 {found.top1:.2%}  top-5 {found.top5:.2%}  on {found.images} images")
        print(f"The network: {arguments.out / 'model'}")
    if launched().rank == 0:  # one of torchrun's processes writes for all
        evaluations = {name: found._asdict() for name, found in result.evaluations.items()}
        write_json({"model": str(arguments.out / "model"), "evaluations": evaluations}, arguments.json)
    return 0


def _how_to_go_on(out: Path) -> str:
    """Return the hint for a command that was stopped."""
    if (out / CHECKPOINT).exists():
        return f"{out} keeps the last checkpoint, and the same command goes on from there"
    return f"{out} has no checkpoint yet, and the same command begins anew"
