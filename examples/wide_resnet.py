"""The WideResNet with competition of Panousis, Chatzis & Theodoridis (Adversarial-LWTA), from this library's layers.

The names of the modules are those of the authors' checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from lwta import LWTA, load_checkpoint

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class BasicBlock(nn.Module):
    """Pre-activation residual block: two 3×3 convolutions, each after normalisation and competition."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, competitors: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.lwta1 = LWTA(competitors)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.lwta2 = LWTA(competitors)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = in_channels != out_channels
        self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        a = self.lwta1(self.bn1(x))
        y = self.conv2(self.lwta2(self.bn2(self.conv1(a))))
        return y + (x if self.convShortcut is None else self.convShortcut(a))


class Stage(nn.Module):
    """Blocks of one resolution; the first changes stride and width."""

    def __init__(self, blocks: int, in_channels: int, out_channels: int, stride: int, competitors: int) -> None:
        super().__init__()
        first = BasicBlock(in_channels, out_channels, stride, competitors)
        others = [BasicBlock(out_channels, out_channels, 1, competitors) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self.layer(x)


class WideResNet(nn.Module):
    """Images (N, 3, 32, 32) with values in [0, 1] to logits (N, classes).

    Args:
        depth: 6·n + 4 layers.
        widen: factor on the channels 16, 32, 64 of the stages.
        classes: of the output.
        competitors: U of every competition.
    """

    def __init__(self, depth: int = 34, widen: int = 1, classes: int = 10, competitors: int = 2) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6·n + 4 with n ≥ 1, got {depth}")
        widths = [16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Stage(blocks, 16, widths[0], 1, competitors)
        self.block2 = Stage(blocks, widths[0], widths[1], 2, competitors)
        self.block3 = Stage(blocks, widths[1], widths[2], 2, competitors)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.lwta = LWTA(competitors)
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.lwta(self.bn1(x)).mean((2, 3)))


def load_wide_resnet(checkpoint: str | Path) -> WideResNet:
    """The WideResNet-34-1 of a checkpoint of the authors, in eval mode, with sampled winners.

    The checkpoint also holds a stage (``sub_block1``) that the network never runs.
    """
    model = WideResNet()
    load_checkpoint(model, checkpoint, ignore="sub_block1.*")
    return model.eval()
