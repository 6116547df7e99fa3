"""Does competition make neurons more readable than ReLU? The same network with both, in one table of scores.

Trains two ResNet-20 on a third of CIFAR-10 at 16×16 pixels, with blocks of two competitors and with ReLU, by the same
recipe and seed; an interrupted run goes on. Dissects both, and a WideResNet with competition that the method's authors
trained, on photographs with CLIP embeddings that were computed before. The table is also in OUT/scores.txt:

    python examples/compare_with_relu.py --data cifar10-part.zip --checkpoint lwta-wrn34-cifar10.pt \
        --images caltech101-val.zip --embeddings caltech101-val-clip-vit-b-32.npz --out results --epochs 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from dissect_real_network import add_inputs, dissect_network
from torch import nn
from wide_resnet import CIFAR10

from lwta import competitions, create_model
from lwta.dissection import ClipEncoder, Concepts, Dissection, dissect
from lwta.dissection.scoring import compare
from lwta.training import open_images, train

SIZE = 16  # pixels, so that an epoch takes about half a minute on two cores
NORM_SCALE = 4.0  # of the batch norms before a competition
NETWORKS = {"LWTA": 2, "ReLU": 1}  # by name, U


def trained(data: Path, out: Path, competitors: int, epochs: int, seed: int) -> tuple[nn.Module, float]:
    """A ResNet-20 that competes, or not, within its branches, and its accuracy on the test images."""
    torch.manual_seed(seed)
    names = open_images(data, "train").classes
    model = create_model(
        "resnet20", competitors, input_size=SIZE, placement="branches", norm_scale=NORM_SCALE, class_names=names
    )
    result = train(model, data, recipe="cifar", out=out, seed=seed, device="cpu", epochs=epochs, batch_size=64)
    return result.model, max(found.top1 for found in result.evaluations.values())


def dissected(model: nn.Module, images: Path, embeddings: Path, layers: list[str], seed: int) -> Dissection:
    """With the network's own preprocessing."""
    clip = ClipEncoder.from_embeddings(embeddings)
    return dissect(model, layers, images, clip=clip, concepts=Concepts(clip.concepts, embeddings.name), seed=seed)


def activations(model: nn.Module) -> list[str]:
    """Names of the competitions and ReLUs, and of the output."""
    competing = {name for name, _ in competitions(model)}
    return [name for name, layer in model.named_modules() if name in competing or isinstance(layer, nn.ReLU)] + ["fc"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inputs(parser)
    parser.add_argument("--data", type=Path, required=True, help="zip or folder of train/<class>/* and test/<class>/*")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained networks and the scores")
    parser.add_argument("--epochs", type=int, default=8, help="of each training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order of images, winners (%(default)s)")
    arguments = parser.parse_args()

    scores, accuracies = {}, {}
    inputs = arguments.images, arguments.embeddings
    for name, competitors in NETWORKS.items():
        folder = arguments.out / f"{name.lower()}-{arguments.epochs}-{arguments.seed}"
        model, accuracies[name] = trained(arguments.data, folder, competitors, arguments.epochs, arguments.seed)
        scores[name] = dissected(model, *inputs, activations(model), arguments.seed).scores(output_layer="fc")
        scores[name].to_json(folder / "scores.json")
    wide = dissect_network(arguments.checkpoint, *inputs, seed=arguments.seed)
    scores["authors' WRN"] = wide.scores(CIFAR10, "fc")
    scores["authors' WRN"].to_json(arguments.out / "authors-scores.json")
    accuracy = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in accuracies.items())
    table = f"{compare(scores)}\n\nAccuracy: {accuracy}"
    (arguments.out / "scores.txt").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
