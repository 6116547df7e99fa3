"""Network with competition for the handwritten digits of scikit-learn: small, real, and trained in seconds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lwta.layers import LWTA

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BRIGHTEST = 16
EPOCHS = 60
CONTRAST = 2.0
"""Initial scale of the batch norms, that is, standard deviation of the responses that compete.

At 1 a block of eight is decided by noise more often than by its responses.
"""


class Digits(NamedTuple):
    """Digits: n of the 1,797 images of scikit-learn, with labels and keys."""

    images: Tensor
    """Images, (n, 1, 8, 8) float32 in 0…1."""

    labels: Tensor
    """Labels, (n,) int64: the digit of each image."""

    keys: list[str]
    """Name of each image: its label and its place in the data set."""


def load() -> tuple[Digits, Digits]:
    """Load the training digits, and the test digits: the last fifth of every class.

    Neither this network nor the tiny CLIP is trained on the test digits.

    Raises:
        ImportError: scikit-learn, which holds the digits, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the demo needs scikit-learn for its digits: pip install 'lwta[demo]'") from error
    data = load_digits()
    images = torch.from_numpy(data.images).float().div(BRIGHTEST).unsqueeze(1)
    labels = torch.from_numpy(data.target)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        places = (labels == label).nonzero().flatten()
        held_out[places[round(0.8 * len(places)) :]] = True
    keys = [f"{NAMES[label]}-{place:04d}" for place, label in enumerate(labels.tolist())]

    def part(mask: Tensor) -> Digits:
        return Digits(
            images[mask], labels[mask], [key for key, chosen in zip(keys, mask.tolist(), strict=True) if chosen]
        )

    return part(~held_out), part(held_out)


def as_image(pixels: Tensor) -> Image.Image:
    """Return a digit, (1, 8, 8) in 0…1, as an RGB picture, white on black."""
    return Image.fromarray(pixels[0].mul(255).byte().numpy()).convert("RGB")


def as_pixels(image: Image.Image) -> Tensor:
    """Return a picture of any size as input of the network, (1, 8, 8) float32 in 0…1."""
    grey = image.convert("L").resize((8, 8), Image.Resampling.BOX)
    return torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).float().div(255).view(1, 8, 8)


class DigitNetwork(nn.Sequential):
    """Network of two convolutions, a hidden layer and ten outputs; every unit but the outputs competes.

    Each competition follows a batch norm: it gives the responses a scale at which winners are neither arbitrary nor
    decided in advance. `CONTRAST` is where that scale begins.

    Args:
        competitors: U of every competition; must divide 32.

    Shape:
        (N, 1, 8, 8) to (N, 10).
    """

    def __init__(self, competitors: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.maps1 = LWTA(competitors)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.maps2 = LWTA(competitors)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64 * 4 * 4, 128, bias=False)
        self.norm3 = nn.BatchNorm1d(128)
        self.hidden = LWTA(competitors)
        self.output = nn.Linear(128, 10)
        for norm in (self.norm1, self.norm2, self.norm3):
            nn.init.constant_(norm.weight, CONTRAST)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, turn and scale each of (n, 1, 8, 8) images a little."""
    n = len(images)
    angle, scale = torch.randn(n, generator=generator) * 0.12, 1 + torch.randn(n, generator=generator) * 0.06
    shift = torch.randn(n, 2, generator=generator) * 0.08
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack((cos, -sin, shift[:, 0], sin, cos, shift[:, 1]), dim=1).view(n, 2, 3)
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


def train(
    digits: Digits, *, competitors: int = 4, epochs: int = EPOCHS, seed: int = 0, progress: bool = True
) -> nn.Module:
    """Train a `DigitNetwork` with AdamW and a cosine schedule; the same seed gives the same network.

    Args:
        digits: digits to train on.
        competitors: U of every competition; must divide 32.
        epochs: number of epochs.
        seed: seed of the weights, the order, the augmentation and the winners.
        progress: show a bar.

    Returns:
        The network, in eval mode.

    Raises:
        ValueError: ``competitors`` is less than 1, or does not divide a width.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DigitNetwork(competitors)
    batch_size = 64
    steps = epochs * -(-len(digits.labels) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    bar = tqdm(range(epochs), desc="training", unit="epoch", disable=not progress)
    for _ in bar:
        for batch in torch.randperm(len(digits.labels), generator=generator).split(batch_size):
            logits = model(_augment(digits.images[batch], generator))
            loss = F.cross_entropy(logits, digits.labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()
