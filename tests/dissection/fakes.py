"""A small world in which everything about a dissection is known: coloured images, a network that sees colours."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from lwta import LWTA
from lwta.dissection import Embeddings

COLOURS = ("red", "green", "blue")


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
