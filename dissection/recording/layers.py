"""Layers to dissect: the name of a module, and the function that is applied to its pooled outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, WinnerActivations
from lwta.support.text import did_you_mean, repeated, some

LayerTransform = Literal["auto", "identity", "softmax", "sigmoid"]
TRANSFORMS: tuple[LayerTransform, ...] = get_args(LayerTransform)

ROWS = 1024
"""Number of images whose activations are transformed at once, so that few are held in float64."""


@dataclass(frozen=True)
class Layer:
    """Layer to dissect, and the function of its outputs that stands for the activations of its neurons.

    In place of a layer its text may be given: "fc" for ``Layer("fc")``, "fc:softmax" for ``Layer("fc", "softmax")``.

    Logits can be compared across images only after a softmax: an image on which all logits are large excites every
    output neuron otherwise. So "auto" is softmax where the layer is the network's classification head and has no
    competition: where its pooled output is the output of the network itself, two numbers or more for each image, and
    these are not probabilities already. Everywhere else it is the identity. A network that returns features in place
    of logits looks the same: ask for "identity" there.

    Only pooled outputs are recorded, without the function, so one recording serves all of them. Stores of versions that
    did not record which layer is the head have none: there "auto" is the identity.

    Example:
        >>> Layer("fc").key, Layer("fc", transform="softmax").key
        ('fc', 'fc:softmax')
    """

    name: str
    """Name of the module, as in ``model.named_modules()``."""
    transform: LayerTransform = "auto"
    """Function of the pooled outputs of an image: "softmax" over the neurons, "sigmoid" of each, "identity", or "auto":
    softmax for the logits of a classification head, else the identity. Layers with competition have the identity."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be the name of a module, got {type(self.name).__name__}")
        if self.transform not in TRANSFORMS:
            raise ValueError(_unknown(self.name, self.transform))

    @property
    def key(self) -> str:
        """Key under which results list the layer: its name, and the function behind a colon unless that is "auto"."""
        return self.name if self.transform == "auto" else f"{self.name}:{self.transform}"

    @classmethod
    def of(cls, layer: str | Layer, known: Collection[str]) -> Layer:
        """Return the layer that is given by itself or as a text; whether there is such a module is not checked.

        Args:
            layer: a layer, the name of a module, or name and function with a colon between them.
            known: names of modules, some of which may have a colon in them.

        Raises:
            ValueError: there is no such function.
            TypeError: it is neither a layer nor a text.

        Example:
            >>> Layer.of("fc:sigmoid", ["fc"])
            Layer(name='fc', transform='sigmoid')
        """
        if isinstance(layer, Layer):
            return layer
        if not isinstance(layer, str):
            raise TypeError(f"layers must be names or lwta.dissection.Layer, got {type(layer).__name__}")
        name, colon, function = layer.rpartition(":")
        if layer in known or not colon:
            return cls(layer)
        for transform in TRANSFORMS:
            if function == transform:
                return cls(name, transform)
        if name in known:
            raise ValueError(_unknown(name, function))
        return cls(layer)


def as_layers(layers: str | Layer | Iterable[str | Layer], known: Collection[str]) -> list[Layer]:
    """Return the layers that an argument names, in their order.

    Args:
        layers: one layer or several, each as in `Layer.of`.
        known: names of modules.

    Raises:
        ValueError: no layer is given, two have the same key, or there is no such function.
        TypeError: one is neither a layer nor a text.
    """
    found = [Layer.of(layer, known) for layer in ([layers] if isinstance(layers, str | Layer) else layers)]
    if not found:
        raise ValueError("layers must name at least one layer, got none")
    twice = repeated(layer.key for layer in found)
    if twice:
        raise ValueError(f"layers must each be given once, got {some(twice)} more than once")
    return found


def transformed(activations: Activations, layer: Layer, transform: LayerTransform) -> Activations:
    """Return the function of the pooled outputs of a layer; that of an image depends on no other image.

    Args:
        activations: pooled outputs.
        layer: the layer, for messages.
        transform: the function; not "auto".

    Raises:
        ValueError: the layer has competition and the function is not the identity.
    """
    if transform == "identity":
        return activations
    if isinstance(activations, WinnerActivations):
        raise ValueError(of_competition(layer))
    function = _softmax if transform == "softmax" else _sigmoid
    return DenseActivations(torch.cat([function(part).float() for part in activations.values.split(ROWS)]))


def of_competition(layer: Layer) -> str:
    """Return the message on a function of a competitive layer, in which only the winners have an output."""
    return f"layers: the transform of a competitive layer must be 'auto' or 'identity', got {layer.key!r}"


def _softmax(outputs: Tensor) -> Tensor:
    return outputs.double().contiguous().softmax(1)


def _sigmoid(outputs: Tensor) -> Tensor:
    # as a softmax, which torch computes row by row: torch.sigmoid rounds the last few elements of a tensor in another
    # way than the others, and which these are depends on how images are cut into shards
    outputs = outputs.double()
    return torch.stack([outputs, torch.zeros_like(outputs)], -1).softmax(-1)[..., 0]


def _unknown(name: str, transform: object) -> str:
    expected = ", ".join(map(repr, TRANSFORMS))
    return (
        f"layers: the transform of {name!r} must be one of {expected}, got {transform!r}"
        f"{did_you_mean(str(transform), TRANSFORMS)}"
    )
