"""Registry of the architectures by name, and the building of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, NamedTuple, get_args

from torch import nn

from lwta.checks import check_choice, check_competitors, check_eval_mode, check_temperature
from lwta.competition import EvalMode
from lwta.models.config import ModelConfig, Placement


class _Architecture(NamedTuple):
    """Architecture: where the function that builds it is, and its settings."""

    module: str
    """Module of this package, imported when a network is built, since it loads timm or torchvision."""
    function: str
    """Name of the function in that module."""
    defaults: dict[str, Any]
    """Settings of `ModelConfig` that differ from its own defaults."""
    arguments: dict[str, str] = {}  # noqa: RUF012 (never changed)
    """Keywords of the function."""


_CIFAR = {
    "num_classes": 10,
    "input_size": 32,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "interpolation": "bicubic",
}
_IMAGENET = {"num_classes": 1000, "input_size": 224}
_DEIT = {**_IMAGENET, "interpolation": "bicubic", "crop_pct": 0.9}
_RESNET = {**_IMAGENET, "interpolation": "bilinear", "crop_pct": 0.875}

_ARCHITECTURES = {
    "deit_tiny": _Architecture("transformers", "deit", _DEIT, {"name": "deit_tiny_patch16_224"}),
    "deit_small": _Architecture("transformers", "deit", _DEIT, {"name": "deit_small_patch16_224"}),
    "resnet18": _Architecture("resnets", "imagenet_resnet", _RESNET, {"name": "resnet18"}),
    "resnet50": _Architecture("resnets", "imagenet_resnet", _RESNET, {"name": "resnet50"}),
    "resnet20": _Architecture("resnets", "resnet20", _CIFAR),
    "vit_cifar": _Architecture("transformers", "vit_cifar", _CIFAR),
}


def list_models() -> list[str]:
    """Return the names that `lwta.create_model` takes.

    Example:
        >>> list_models()
        ['deit_small', 'deit_tiny', 'resnet18', 'resnet20', 'resnet50', 'vit_cifar']
    """
    return sorted(_ARCHITECTURES)


def create_model(
    name: str,
    competitors: int = 2,
    num_classes: int | None = None,
    *,
    input_size: int | None = None,
    fused: bool = False,
    drop_path: float = 0.0,
    placement: Placement = "everywhere",
    norm_scale: float = 1.0,
    class_names: Sequence[str] | None = None,
    temperature: float = 1.67,
    eval_mode: EvalMode = "sample",
    track_kl: bool = False,
) -> nn.Module:
    """Build a network with competition, untrained; parameters and their number are those of the ordinary network.

    Transformers (DeiT of timm, arXiv 2012.12877) compete in the perceptrons of their blocks, residual networks (of
    torchvision, arXiv 1512.03385) in the place of every ReLU.

    Args:
        name: name of the architecture, one of `list_models`.
        competitors: U; 1 builds the ordinary network, with its GELU or ReLU.
        num_classes: number of outputs; None means 1,000, or 10 for the networks for 32×32.
        input_size: height and width of the images; None means 224, or 32 for the networks for 32×32.
        fused: make the perceptrons of a transformer `LWTAMlp`, which keeps only winners between its layers; the
            state-dict keys stay the same.
        drop_path: largest probability of dropping a residual branch in training, of transformers.
        placement: where residual networks compete: "everywhere", as in DISCOVER, or "branches", within the residual
            branches and the stem alone, which trains better in few epochs (benchmarks/NOTES.md); with U = 1 the ReLUs
            stand there.
        norm_scale: initial scale of the batch norms right before a competition in residual networks; not used with
            U = 1. The larger, the more the responses stand out from the noise of the competition; 4 trains better in
            few epochs (benchmarks/NOTES.md).
        class_names: names of the outputs, in their order; kept with the network when it is saved.
        temperature: as in `LWTA`.
        eval_mode: as in `LWTA`.
        track_kl: as in `LWTA`.

    Returns:
        The network, in training mode. ``lwta_config`` says what it was built from, ``pretrained_cfg`` how images are
        preprocessed, in timm's words.

    Raises:
        TypeError: ``competitors`` is not an int.
        ValueError: a name is unknown, a setting is out of range, U does not divide a width, or the architecture does
            not have a setting.

    Example:
        >>> model = create_model("vit_cifar", competitors=24)
        >>> model.blocks[0].mlp.act
        LWTA(competitors=24)
    """
    check_choice("name", name, tuple(list_models()))
    check_competitors(competitors)
    check_temperature(temperature)
    check_eval_mode(eval_mode)
    if not 0 < norm_scale < inf:
        raise ValueError(f"norm_scale must be positive and finite, got {norm_scale}")
    defaults = _ARCHITECTURES[name].defaults
    if class_names is not None:
        num_classes = len(class_names) if num_classes is None else num_classes
        if num_classes != len(class_names):
            raise ValueError(f"class_names must be num_classes={num_classes} names, got {len(class_names)}")
    config = ModelConfig(
        name=name,
        competitors=competitors,
        fused=fused,
        drop_path=drop_path,
        placement=placement,
        norm_scale=norm_scale,
        temperature=temperature,
        eval_mode=eval_mode,
        track_kl=track_kl,
        class_names=None if class_names is None else tuple(class_names),
        **defaults,
    )
    return build(
        replace(
            config,
            num_classes=config.num_classes if num_classes is None else num_classes,
            input_size=config.input_size if input_size is None else input_size,
        )
    )


def build(config: ModelConfig) -> nn.Module:
    """Build the network that a configuration describes.

    Raises:
        ValueError: the name is unknown, U does not divide a width, or the architecture does not have a setting.
    """
    from importlib import import_module

    check_choice("name", config.name, tuple(list_models()))
    check_choice("placement", config.placement, get_args(Placement))
    architecture = _ARCHITECTURES[config.name]
    if architecture.module == "resnets" and (config.fused or config.drop_path):
        raise ValueError(f"fused and drop_path are settings of transformers, which {config.name} is not")
    if architecture.module == "transformers" and (config.placement != "everywhere" or config.norm_scale != 1):
        raise ValueError(f"placement and norm_scale are settings of residual networks, which {config.name} is not")
    function: Callable[..., nn.Module] = getattr(
        import_module(f"lwta.models.{architecture.module}"), architecture.function
    )
    model = partial(function, **architecture.arguments)(config)
    _check_blocks(model, config)
    model.lwta_config = config  # type: ignore[assignment]
    model.pretrained_cfg = config.pretrained_cfg  # type: ignore[assignment]
    return model


def _check_blocks(model: nn.Module, config: ModelConfig) -> None:
    """Raise ValueError if U does not divide the width of a perceptron, which otherwise only a forward pass would do."""
    for name, module in model.named_modules():
        fc1 = getattr(module, "fc1", None)
        if config.competitors > 1 and isinstance(fc1, nn.Linear) and fc1.out_features % config.competitors:
            raise ValueError(
                f"competitors must divide the width of every competition of {config.name}: got "
                f"competitors={config.competitors} for {name} with {fc1.out_features} units"
            )
