"""Vision transformers of timm with competition in their perceptrons: fc1 → LWTA → fc2."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from lwta.layers import LWTA, LWTAMlp
from lwta.models.config import ModelConfig


def deit(config: ModelConfig, *, name: str) -> nn.Module:
    """Build timm's DeiT of this name."""
    import timm

    return timm.create_model(
        name,
        num_classes=config.num_classes,
        img_size=config.input_size,
        drop_path_rate=config.drop_path,
        **_perceptron(config),
    )


def vit_cifar(config: ModelConfig) -> nn.Module:
    """Build timm's VisionTransformer for small images: patches of 4×4, six blocks of width 192, 2.7·10⁶ parameters."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=config.input_size,
        patch_size=4,
        embed_dim=192,
        depth=6,
        num_heads=3,
        num_classes=config.num_classes,
        drop_path_rate=config.drop_path,
        **_perceptron(config),
    )


def _perceptron(config: ModelConfig) -> dict[str, Any]:
    """Return the keywords of a VisionTransformer that decide what its perceptrons are; none for an ordinary network."""
    if config.competitors == 1:
        return {}
    if config.fused:
        return {"mlp_layer": partial(_fused_mlp, competitors=config.competitors, **config.competition)}
    return {"act_layer": partial(LWTA, config.competitors, **config.competition)}


def _fused_mlp(
    in_features: int,
    hidden_features: int | None = None,
    out_features: int | None = None,
    act_layer: object = None,
    norm_layer: object = None,
    bias: bool = True,
    drop: float = 0.0,
    device: Any = None,
    dtype: Any = None,
    **competition: Any,
) -> LWTAMlp:
    """Build an `LWTAMlp` from the arguments with which timm builds its Mlp."""
    return LWTAMlp(in_features, hidden_features, out_features, bias=bias, drop=drop, **competition).to(device, dtype)
