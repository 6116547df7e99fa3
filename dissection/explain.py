"""One image: which neurons fired, what they stand for, and what they did for the predicted class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from lwta.dissection.activations import Activations, WinnerActivations
from lwta.dissection.hooks import Tap, evaluating, find_layers, seeded, tapped
from lwta.dissection.loading import Transform
from lwta.dissection.result import Dissection
from lwta.dissection.table import Column, text_table


class Evidence(NamedTuple):
    """One neuron that fired."""

    layer: str
    neuron: int
    concept: str | None
    """Its label; None if it fired nowhere on the probe."""
    activation: float
    """Its output, pooled as in the dissection; may be negative, for a winner too."""
    share: float
    """Share of the image's positions that it won; 1 without positions or without competition."""
    contribution: float
    """Output times gradient of the predicted class's logit with respect to it, summed over the positions; with pooling
    "cls", at the class token."""


@dataclass(frozen=True)
class Explanation:
    """Why the network predicts what it predicts; as text, a table."""

    predicted: int
    """Index of the class."""
    class_name: str
    probability: float
    logit: float
    evidence: dict[str, list[Evidence]]
    """By layer, the neurons that fired, the largest contributions, for or against, first."""

    def table(self, rows: int | None = 10) -> str:
        """For the terminal, with the first ``rows`` neurons of each layer or all (None)."""
        lines = [f"predicted: {self.class_name} ({self.probability:.1%})"]
        for layer, evidence in self.evidence.items():
            shown = evidence[:rows]
            columns = [
                Column("contribution", [f"{one.contribution:+.3f}" for one in shown], right=True),
                Column("activation", [f"{one.activation:+.3f}" for one in shown], right=True),
                Column("neuron", [str(one.neuron) for one in shown], right=True),
                Column("concept", [one.concept or "–" for one in shown]),
            ]
            lines += ["", f"{layer}: {len(evidence)} neurons fired", text_table(columns)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def explain(
    model: nn.Module,
    image: Image.Image,
    dissection: Dissection,
    *,
    transform: Transform | None = None,
    layers: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Explanation:
    """What the neurons that fired on one image stand for, and what each contributed to the predicted class.

    The contribution of a neuron is its output times the gradient of the predicted class's logit with respect to that
    output. Where the rest of the network is linear, the contributions of a layer add up to the logit less its bias.
    Only winners are listed: a loser's output is 0, and so is what it contributes. The gradient passes later
    competitions by their straight-through estimator. (DISCOVER, arXiv 2310.04929, lists activations alone.)

    Args:
        model: the dissected network, which gives logits (1, C) for one image.
        image: PIL.
        dissection: names the neurons, and gives the layers.
        transform: preprocessing; None for that of the dissection.
        layers: some of the dissected layers; None for all.
        class_names: C names of the classes; None for their numbers.
        seed: of the draw of the winners, at least 0.

    Raises:
        ValueError: a layer was not dissected, or there are not as many names as classes.
        TypeError: ``image`` is not a PIL image, or the model gives no logits (1, C).
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"image must be a PIL image, got {type(image).__name__}")
    names = dissection.layers if layers is None else list(layers)
    concepts = {name: [label.concept for label in dissection.labels(name, runner_ups=0)] for name in names}
    transform = transform or dissection.transform
    if transform is None:
        raise ValueError("transform must be given: the dissection was opened from a store, which holds none")
    with ExitStack() as stack:
        place = stack.enter_context(evaluating(model))
        outputs = stack.enter_context(_kept_outputs(model, names))
        taps = stack.enter_context(tapped(model, names, dissection.recording.pool))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(seeded(seed, 0, place))
        # the input asks for a gradient so that frozen networks have one too
        logits = model(transform(image.convert("RGB")).unsqueeze(0).to(place).requires_grad_())
        _check_logits(logits, class_names)
        predicted = int(logits[0].argmax())
        kept = [outputs[name] for name in names]  # they ran in an order of their own
        gradients = torch.autograd.grad(logits[0, predicted], kept, allow_unused=True)
        logits = logits.detach()
    evidence = {}
    for tap, output, gradient in zip(taps, kept, gradients, strict=True):
        contributions = torch.zeros_like(output) if gradient is None else output * gradient
        evidence[tap.name] = _evidence(tap, contributions.detach(), concepts[tap.name])
    return Explanation(
        predicted=predicted,
        class_name=f"class {predicted}" if class_names is None else class_names[predicted],
        probability=float(logits[0].softmax(0)[predicted]),
        logit=float(logits[0, predicted]),
        evidence=evidence,
    )


def _check_logits(logits: object, class_names: Sequence[str] | None) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"model must give logits of shape (1, C) for one image, got {seen}")
    if class_names is not None and len(class_names) != logits.shape[1]:
        raise ValueError(f"class_names must name the {logits.shape[1]} classes of the model, got {len(class_names)}")


@contextmanager
def _kept_outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While the context lasts, the layers' last outputs, in the graph."""
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in find_layers(model, names).items():

            def keep(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> Tensor:
                outputs[name] = output
                return output.clone()  # so that nothing behind the layer overwrites what is kept

            stack.callback(module.register_forward_hook(keep).remove)
        yield outputs


def _evidence(tap: Tap, contributions: Tensor, concepts: Sequence[str | None]) -> list[Evidence]:
    """The neurons that fired, by the size of their contribution; ties in the order of the neurons."""
    activations = tap.take(["image"])
    positions = contributions.movedim(tap.axis, -1).reshape(-1, activations.neurons)
    totals = (positions[:1] if tap.pool == "cls" else positions).sum(0).tolist()
    listed = [
        Evidence(tap.name, neuron, concepts[neuron], value, share, totals[neuron])
        for neuron, value, share in _fired(activations)
    ]
    return sorted(listed, key=lambda one: -abs(one.contribution))


def _fired(activations: Activations) -> Iterator[tuple[int, float, float]]:
    """Neuron, pooled output and share of the positions won, of every neuron that fired on the one image."""
    if isinstance(activations, WinnerActivations):
        columns = (activations.units, activations.values, activations.shares)
        yield from zip(*(column.tolist() for column in columns), strict=True)
    else:
        yield from ((neuron, value, 1.0) for neuron, value in enumerate(activations.values[0].tolist()) if value != 0)
