"""Real networks that labels are measured on, from weights in the folder of shared data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = torch.tensor([104.0, 117.0, 123.0])[:, None, None]


class Network(NamedTuple):
    """Network with its preprocessing."""

    model: nn.Module
    transform: Callable[[Image.Image], Tensor]


class _Block(nn.Module):
    """Residual block whose shortcut has no parameters: every second pixel, channels padded by zeros on both sides."""

    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if y.shape != x.shape:
            padding = (y.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, padding, padding))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet of He et al. (2016) for 32×32 images, with 6·n + 2 layers.

    Args:
        blocks: number of blocks in a stage, n.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                *(_Block(width if k == 0 else channels, channels, stride if k == 0 else 1) for k in range(blocks))
            )
            for width, channels, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to logits (N, 10)."""
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def cifar_resnet(depth: int, *, trained: bool = True, seed: int = 0) -> Network:
    """Return ResNet-20 or ResNet-56 of CIFAR-10 with its published weights, or with random ones.

    Args:
        depth: 20 or 56.
        trained: whether to load the weights; else those of He et al.'s initialisation.
        seed: seed of the random weights.
    """
    torch.manual_seed(seed)
    model = CifarResNet((depth - 2) // 6)
    if trained:
        weights = np.load(DATA / f"resnet{depth}-cifar10.npz")
        model.load_state_dict({name: torch.tensor(weights[name]).float() for name in weights.files}, strict=False)
    else:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    to_input = [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize(CIFAR_MEAN, CIFAR_STD)]
    return Network(model.eval(), transforms.Compose(to_input))


def wide_resnet() -> Network:
    """Return the stochastic-LWTA network that the authors of the method trained on CIFAR-10."""
    sys.path.insert(0, str(ROOT / "examples"))
    from wide_resnet import load_wide_resnet

    to_input = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    return Network(load_wide_resnet(DATA / "lwta-wrn34-cifar10.pt").eval(), to_input)


def squeezenet() -> Network:
    """Return SqueezeNet 1.0 for ImageNet."""
    model = torchvision.models.squeezenet1_0(weights=None)
    weights = np.load(DATA / "squeezenet1_0-imagenet.npz")
    model.load_state_dict({name: torch.tensor(weights[name]).float() for name in weights.files})
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(227)])

    def to_input(image: Image.Image) -> Tensor:
        pixels = torch.tensor(np.asarray(crop(image))).permute(2, 0, 1).float()
        return pixels[[2, 1, 0]] - CAFFE_MEAN

    return Network(model.eval(), to_input)
