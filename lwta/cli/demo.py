"""Train a network on handwritten digits, say in words what its neurons stand for, explain one image.

Needs no download and no GPU: the digits come with scikit-learn, the words from the tiny CLIP of this package.

Examples:
  lwta demo                              # about a minute on two cores; the results are in lwta-demo/
  lwta demo --competitors 8 --out other  # larger blocks
  lwta demo --json -                     # accuracy, labels and explanations for another program
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from lwta.cli._options import labels_of
from lwta.cli._output import add_json, stdout_to_stderr_if_json, write_json
from lwta.dissection import ClipEncoder, Concepts, Explained, dissect
from lwta.models import digits
from lwta.network import average_logits

LAYERS = ("maps2", "hidden", "output")

STROKES = (
    *("thin", "thick", "slanted left", "upright", "slanted right"),
    *("no loop", "one loop", "two loops", "narrow", "wide"),
)
"""Concepts of the tiny CLIP for digits, besides their names."""

LEGEND = (
    "r: how well the words predict the neuron, on digits they were not chosen by, 0 to 1; "
    '"no word fits": r is too low, or they predict another neuron better.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta demo`."""
    parser.add_argument("--out", type=Path, default=Path("lwta-demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--competitors", type=int, default=4, help="units in a block, a divisor of 32 (%(default)s)")
    parser.add_argument("--epochs", type=int, default=digits.EPOCHS, help="epochs of training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of training and dissection (%(default)s)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, and return the exit code."""
    with stdout_to_stderr_if_json(arguments.json):
        findings = _show(arguments)
    write_json(findings, arguments.json)
    return 0


def _show(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, dissect and explain, print each result, and return the findings."""
    train_set, test_set = digits.load()
    print(
        f"1. Training on {len(train_set.labels)} handwritten digits; blocks of {arguments.competitors} units compete."
    )
    model = digits.train(train_set, competitors=arguments.competitors, epochs=arguments.epochs, seed=arguments.seed)
    accuracy = _accuracy(model, test_set)
    print(f"   Accuracy on {len(test_set.labels)} other digits: {accuracy:.1%} (winners averaged over six draws).\n")

    print("2. Dissecting: which concept does each neuron stand for?")
    probe = [(key, digits.as_image(image)) for part in (train_set, test_set) for key, image in _keyed(part)]
    dissection = dissect(
        model,
        LAYERS,
        probe,
        clip=ClipEncoder("tiny"),
        concepts=Concepts((*digits.NAMES, *STROKES)),
        transform=digits.as_pixels,
        seed=arguments.seed,
    )
    print(f"   {LEGEND}")
    for layer in LAYERS:
        print(dissection.table(layer, rows=10))
    named = sum(row.concept == digits.NAMES[row.neuron] for row in dissection.labels("output"))
    print(f"   Output neurons named after their digit: {named} of 10.\n")

    explained = [
        Explained(key, image, dissection.explain(image, class_names=digits.NAMES, versus=versus, draws=6))
        for (key, image), versus in zip((probe[place] for place in (-1, -2, -9)), (None, None, "one"), strict=True)
    ]
    print(f"3. Explaining one image, {explained[0].key}:")
    print(explained[0].explanation)

    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "neurons.csv"
    dissection.to_csv(table)
    page = dissection.to_report(arguments.out, title="A network that reads digits", explained=explained)
    print(f"\nEvery neuron as a table: {table}\nThe atlas of neurons and images: {page}  (open it in a browser)")
    print(f"\n{_next_command()}")
    return {
        "accuracy": accuracy,
        "named_after_their_digit": named,
        "labels": labels_of(dissection),
        "explanations": [{"image": image.key, **image.explanation.to_dict()} for image in explained],
    }


def _next_command() -> str:
    """Return the command to try next, with the program's name as this one was called by."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "lwta" else "python -m lwta"
    return (
        "The same for a network and photographs of yours (timm's resnet18 and a folder, for example):\n"
        f"  {program} dissect --model timm:resnet18 --layers layer4 --probe photos/ \\\n"
        "    --clip ViT-B-16/openai --concepts imagenet --report atlas"
    )


def _keyed(part: digits.Digits) -> zip[tuple[str, torch.Tensor]]:
    """Return pairs of key and image."""
    return zip(part.keys, part.images, strict=True)


def _accuracy(model: torch.nn.Module, part: digits.Digits) -> float:
    """Return the share of the digits that a network recognises, with logits averaged over six draws of the winners."""
    with torch.inference_mode():
        predicted = average_logits(model, part.images).argmax(1)
    return (predicted == part.labels).double().mean().item()
