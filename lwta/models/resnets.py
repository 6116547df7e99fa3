"""Residual networks of torchvision with competition in the place of every ReLU, each call a layer of its own."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet

from lwta.conversion import CallSites, convert
from lwta.models.config import ModelConfig


def imagenet_resnet(config: ModelConfig, *, name: str) -> nn.Module:
    """Build torchvision's ResNet of this name."""
    return _competing(getattr(resnet, name)(num_classes=config.num_classes), config)


def resnet20(config: ModelConfig) -> nn.Module:
    """Build the ResNet-20 for CIFAR of He et al. (arXiv 1512.03385, section 4.2), with 1×1 convolutional shortcuts."""
    return _competing(CifarResNet(3, config.num_classes), config)


class CifarResNet(resnet.ResNet):
    """Torchvision's ResNet for images of 32×32: a 3×3 stem and three stages of 16, 32 and 64 feature maps.

    Args:
        blocks: basic blocks in a stage; the network has 6·blocks + 2 layers.
        num_classes: number of outputs.
    """

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__(resnet.BasicBlock, [1, 1, 1, 1], num_classes)
        self.inplanes = 16
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.maxpool = nn.Identity()
        self.layer1 = self._make_layer(resnet.BasicBlock, 16, blocks)
        self.layer2 = self._make_layer(resnet.BasicBlock, 32, blocks, stride=2)
        self.layer3 = self._make_layer(resnet.BasicBlock, 64, blocks, stride=2)
        self.layer4 = nn.Identity()
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _competing(model: nn.Module, config: ModelConfig) -> nn.Module:
    """Return a residual network with the competitions of a configuration."""
    if config.competitors > 1:
        model = convert(model, config.competitors, replace=nn.ReLU, **config.competition)
        _scale_norms(model, config.norm_scale)
    if config.placement == "branches":
        _clear_identity_path(model)
    return model


def _clear_identity_path(model: nn.Module) -> None:
    """Remove the last activation of every block, which follows the addition."""
    for block in model.modules():
        if isinstance(block, resnet.BasicBlock | resnet.Bottleneck):
            before = _activations_within(block)
            activations = list(block.relu) if isinstance(block.relu, CallSites) else [nn.ReLU() for _ in range(before)]
            CallSites.install(block, "relu", [*activations[:before], nn.Identity()])


def _scale_norms(model: nn.Module, scale: float) -> None:
    """Set the scale of the batch norms right before a competition: those of the stem and within the branches."""
    for block in model.modules():
        if isinstance(block, resnet.ResNet):
            nn.init.constant_(block.bn1.weight, scale)
        if isinstance(block, resnet.BasicBlock | resnet.Bottleneck):
            for number in range(1, 1 + _activations_within(block)):
                nn.init.constant_(getattr(block, f"bn{number}").weight, scale)


def _activations_within(block: nn.Module) -> int:
    """Return the number of activations that a residual block has before its addition."""
    return 2 if isinstance(block, resnet.Bottleneck) else 1
