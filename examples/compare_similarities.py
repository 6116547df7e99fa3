"""All similarities on a trained LWTA network and real photographs, after one pass over them.

Prints how the ten output neurons are named by each, and how often two of them name a neuron alike:

    python examples/compare_similarities.py --checkpoint lwta-wrn34-cifar10.pt --images caltech101-val.zip \
        --embeddings caltech101-val-clip-vit-b-32.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dissect_real_network import add_inputs, dissect_network
from wide_resnet import CIFAR10, load_wide_resnet

from lwta import competitions
from lwta.dissection import SIMILARITIES, Dissection
from lwta.support.tables import Column, text_table

Names = dict[tuple[str, int], str]


def compare(checkpoint: Path, images: Path, embeddings: Path) -> dict[str, Dissection]:
    """By similarity, the dissection of the output and of every competition."""
    layers = ["fc", *(name for name, _ in competitions(load_wide_resnet(checkpoint)))]
    dissection = dissect_network(checkpoint, images, embeddings, layers=layers)
    return {name: dissection.relabel(similarity=name, abstain=False) for name in SIMILARITIES}


def agreement(one: Names, other: Names) -> float:
    """Share of the neurons that both name, to which they give the same name."""
    both = one.keys() & other.keys()
    return sum(one[neuron] == other[neuron] for neuron in both) / len(both)


def concepts(dissection: Dissection, layers: list[str]) -> Names:
    """Of the neurons that answered."""
    labels = (label for layer in layers for label in dissection.labels(layer))
    return {(label.layer, label.neuron): label.concept for label in labels if label.concept is not None}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inputs(parser)
    arguments = parser.parse_args()
    dissections = compare(arguments.checkpoint, arguments.images, arguments.embeddings)

    columns = [Column("class", list(CIFAR10))]
    columns += [
        Column(name, [label.concept or "–" for label in result.labels("fc")]) for name, result in dissections.items()
    ]
    print(text_table(columns))
    hidden = [layer for layer in next(iter(dissections.values())).layers if layer != "fc"]
    named = {name: concepts(result, hidden) for name, result in dissections.items()}
    columns = [Column("", list(named))]
    columns += [
        Column(name, [f"{agreement(named[name], other):.0%}" for other in named.values()], right=True) for name in named
    ]
    print(f"\nThe same name for a neuron of the {len(hidden)} competitions:\n{text_table(columns)}")


if __name__ == "__main__":
    main()
