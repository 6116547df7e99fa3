"""A small world in which everything about a dissection is known: coloured images, a network that sees colours."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from lwta import LWTA
from lwta.dissection import Dissection, Embeddings, dissect
from lwta.dissection.recording.activations import Activations, DenseActivations, pool_winners
from lwta.dissection.recording.one_pass import Encoded
from lwta.dissection.recording.recording import MemoryRecording
from lwta.winners import Winners

COLOURS = ("red", "green", "blue")
SIMILARITY = "correlation"  # by moments, as the default is, in a tenth of its time


def images(count: int, size: int = 6) -> list[tuple[str, Image.Image]]:
    """``count`` keyed images, red, green and blue by turns, each of its own brightness."""
    pairs = []
    for i in range(count):
        channels = [0, 0, 0]
        channels[i % 3] = 255 - i
        pairs.append((f"{COLOURS[i % 3]}/{i:03d}.png", Image.new("RGB", (size, size), tuple(channels))))
    return pairs


def to_tensor(image: Image.Image) -> Tensor:
    """(3, h, w) float32 in [0, 1]."""
    return pil_to_tensor(image).float() / 255


def embeddings(keys: list[str]) -> Embeddings:
    """A CLIP that knows the colour, the folder of the key, and words for the colours and for one that never occurs."""
    rows = torch.tensor([COLOURS.index(key.split("/")[0]) for key in keys])
    texts = [f"a {colour} thing" for colour in COLOURS] + ["a grey thing"]
    return Embeddings(keys, torch.eye(4)[rows], texts, torch.eye(4))


class ColourNetwork(nn.Module):
    """Mean colour → two blocks of (red, green) and (blue, nothing) in competition → three classes.

    The unit "nothing" always responds with -1 and wins its block only where blue responds with less. The last class
    sees the first unit alone.
    """

    def __init__(self, eval_mode: str = "argmax") -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Conv2d(3, 4, 1)
        self.act = LWTA(2, eval_mode=eval_mode)  # type: ignore[arg-type]
        self.flat = nn.Flatten()
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 4], [0, 0, 0]])[:, :, None, None])
            self.mix.bias.copy_(torch.tensor([0.0, 0, -2, -1]))
            self.head.weight.copy_(torch.tensor([[2.0, 0, 0, 1], [0, 2, 0, 1], [0, 0, 2, 1]]))
            self.head.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, h, w) to (N, 3)."""
        return self.head(self.flat(self.act(self.mix(self.mean(x)))))


def dissected(model: torch.nn.Module | None = None, layers: Any = ("act", "head"), **changes: Any) -> Dissection:
    """The dissection of this world, labelled by `SIMILARITY` where nothing else is asked for."""
    probe = images(30)
    clip = embeddings([key for key, _ in probe])
    arguments = {"clip": clip, "concepts": clip.concepts, "transform": to_tensor, "batch_size": 8, "progress": False}
    arguments["similarity"] = SIMILARITY
    return dissect(model or ColourNetwork(), layers, changes.pop("probe", probe), **{**arguments, **changes})


def recorded(activations: Activations, features: Tensor, labels: list[str | None] | None = None) -> MemoryRecording:
    """Everything in one batch."""
    keys = [f"{i:03d}" for i in range(len(features))]
    batch = Encoded(0, keys, labels or [None] * len(keys), features, {"layer": activations}, [])
    return MemoryRecording([batch], [], "auto")


def activations_of(competitors: int | None, images: int, neurons: int = 8, positions: int = 3) -> Activations:
    """Random ones; without competition about half are 0, as behind a ReLU."""
    if competitors is None:
        return DenseActivations(torch.randn(images, neurons).relu())
    shape = images, positions, neurons // competitors
    return pool_winners(
        Winners(torch.randn(shape), torch.randint(competitors, shape, dtype=torch.uint8), competitors), "mean"
    )


def embedded(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(shape), dim=-1)


def in_batches(activations: Activations, features: Tensor, size: int) -> MemoryRecording:
    """With keys that run against the order of the images."""
    batches = []
    for number, places in enumerate(torch.arange(len(features)).split(size)):
        mask = torch.zeros(len(features), dtype=torch.bool)
        mask[places] = True
        keys = [f"{999 - i}" for i in places.tolist()]
        batches.append(
            Encoded(number, keys, [None] * len(keys), features[mask], {"layer": activations.select(mask)}, [])
        )
    return MemoryRecording(batches, [], "auto")
