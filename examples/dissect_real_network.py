"""Dissect a trained LWTA network on real photographs, with CLIP embeddings that were computed before.

Writes a CSV of the neurons of each layer and prints the ten output neurons; with --atlas, of all its layers, also an
atlas with ten explained photographs and a table of scores:

    python examples/dissect_real_network.py --checkpoint lwta-wrn34-cifar10.pt --images caltech101-val.zip \
        --embeddings caltech101-val-clip-vit-b-32.npz --out results --atlas
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.transforms import v2
from wide_resnet import CIFAR10, load_wide_resnet

from lwta import competitions
from lwta.dissection import ClipEncoder, Concepts, Dissection, Explained, dissect

LAYERS = ("fc", "lwta")


def dissect_network(
    checkpoint: Path, images: Path, embeddings: Path, *, layers: Sequence[str] = LAYERS, seed: int = 0
) -> Dissection:
    """The output neurons and the last competition of the WideResNet on the photographs, shrunk to its 32×32 pixels."""
    clip = ClipEncoder.from_embeddings(embeddings)
    to_input = v2.Compose(
        [v2.PILToTensor(), v2.Resize((32, 32), antialias=True), v2.ToDtype(torch.float32, scale=True)]
    )
    return dissect(
        load_wide_resnet(checkpoint),
        layers,
        images,
        clip=clip,
        concepts=Concepts(clip.concepts, source=embeddings.name),
        similarity="soft_wpmi",
        transform=to_input,
        seed=seed,
    )


def explained(result: Dissection, count: int = 10) -> list[Explained]:
    """So many of the photographs, spread over the data set, each with the reasons of its class."""
    keys = result.recording.keys
    chosen = [keys[len(keys) * place // count] for place in range(count)]
    images = dict(result.probe.images(chosen))
    return [Explained(key, images[key], result.explain(images[key], class_names=CIFAR10, draws=6)) for key in chosen]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Options for what is dissected."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="WideResNet-34-1 with LWTA, trained on CIFAR-10")
    parser.add_argument("--images", type=Path, required=True, help="zip archive or folder of photographs")
    parser.add_argument("--embeddings", type=Path, required=True, help="NPZ of CLIP embeddings of these photographs")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the CSVs")
    parser.add_argument("--atlas", action="store_true", help="all layers, and OUT/atlas/index.html")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the winners")
    arguments = parser.parse_args()

    inputs = (arguments.checkpoint, arguments.images, arguments.embeddings)
    competing = [name for name, _ in competitions(load_wide_resnet(arguments.checkpoint))]
    layers = [*competing, "fc"] if arguments.atlas else LAYERS
    result = dissect_network(*inputs, layers=layers, seed=arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for layer in result.layers:
        result.to_csv(arguments.out / f"{layer}.csv", layer)
    for name, label in zip(CIFAR10, result.labels("fc", runner_ups=3), strict=True):
        others = ", ".join(concept for concept, _ in label.runner_ups)
        print(f"{name:10}  {label.text()}  (then {others})")
    if arguments.atlas:
        page = result.to_report(
            arguments.out / "atlas", title="WideResNet-34-1 with competition", explained=explained(result)
        )
        print(f"\n{result.scores(class_names=CIFAR10, output_layer='fc')}\n\nThe atlas: {page}")


if __name__ == "__main__":
    main()
