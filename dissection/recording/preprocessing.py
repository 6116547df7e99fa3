"""Preprocessing of images, each network's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

Transform = Callable[[Image.Image], Tensor]
"""Preprocessing from a PIL image to the input of a network, without the batch axis."""


def find_transform(transform: Transform | WeightsEnum | str | None, model: nn.Module) -> Transform:
    """Resolve the ``transform`` argument of `dissect` to a callable from a PIL image to a tensor.

    Args:
        transform: a callable, which is returned as it is; weights of torchvision, such as ``ResNet18_Weights.DEFAULT``,
            or their name, such as "ResNet18_Weights.DEFAULT", for the preprocessing that belongs to them; or None for
            `default_transform`.
        model: the network.

    Raises:
        ValueError: ``transform`` is None and the model has none of its own, or torchvision has no weights of this name.
        TypeError: ``transform`` is none of these.
    """
    if transform is None:
        return default_transform(model)
    if isinstance(transform, str):
        from torchvision.models import get_weight

        try:
            transform = get_weight(transform)
        except (ValueError, AttributeError, KeyError):
            raise ValueError(
                f"transform must be the name of weights of torchvision, such as 'ResNet18_Weights.DEFAULT', "
                f"got {transform!r}"
            ) from None
    preset: Any = getattr(transform, "transforms", None)
    if not callable(transform) and callable(preset):  # the weights enumerations cannot be called, their presets can
        transform = preset()
    if not callable(transform):
        raise TypeError(
            f"transform must be a callable from a PIL image to a tensor or weights of torchvision, "
            f"got {type(transform).__name__}"
        )
    return transform


def default_transform(model: nn.Module) -> Transform:
    """Return the evaluation preprocessing that a model of timm or open_clip (whole, or its image tower) carries.

    Raises:
        ValueError: the model carries none.
    """
    if getattr(model, "pretrained_cfg", None):
        from timm.data import create_transform, resolve_data_config

        return create_transform(**resolve_data_config({}, model=model), is_training=False)
    config = getattr(getattr(model, "visual", model), "preprocess_cfg", None)
    if config:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**config), is_train=False)
    raise ValueError(
        f"transform must be given, since {type(model).__name__} has no pretrained_cfg as timm's models do: "
        "a callable from a PIL image to the network's input, such as torchvision.transforms.Compose([...]), or weights "
        "of torchvision, such as ResNet18_Weights.DEFAULT"
    )
