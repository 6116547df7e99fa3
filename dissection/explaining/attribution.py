"""Attribution on one image: which neurons were active, and what each contributed to the predicted class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from lwta.dissection.explaining.explanation import Explanation
from lwta.dissection.explaining.findings import ClassProbability, Evidence, class_index
from lwta.dissection.explaining.heat_map import positions, prefix_tokens, seen
from lwta.dissection.labels.label import Label
from lwta.dissection.labels.naming import Naming
from lwta.dissection.recording.activations import Activations, Pool, WinnerActivations
from lwta.dissection.recording.hooks import Tap, find_layers, tapped
from lwta.dissection.recording.loading import Transform
from lwta.images.decoding import to_rgb
from lwta.models.config import class_names_of
from lwta.support.running import evaluating
from lwta.support.seeds import derive, seeded

MAPPED = 12
"""Number of neurons in each layer, those that contribute most, whose positions are kept."""


def explain(
    model: nn.Module,
    image: Image.Image,
    dissection: Naming,
    *,
    transform: Transform | None = None,
    layers: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    target: int | str | None = None,
    versus: int | str | None = None,
    draws: int = 1,
    seed: int = 0,
) -> Explanation:
    """Explain the prediction on one image: what the active neurons stand for, and what each contributed to a class.

    The contribution of a neuron is its attribution by activation × gradient: its output times the gradient of the
    class's logit with respect to that output.
    Where the rest of the network is linear, the contributions of a layer add up to the logit less its bias. Only
    winners are listed: a loser's output is 0, and so is what it contributes. The gradient passes later competitions by
    their straight-through estimator. (DISCOVER, arXiv 2310.04929, lists activations alone.)

    Args:
        model: the dissected network, which returns logits (1, C) for one image.
        image: PIL image.
        dissection: the dissection of the network, which names its neurons.
        transform: preprocessing; None for that of the dissection.
        layers: some of the dissected layers, by key; None for all. Activations and contributions are those of the
            layer's output, whatever function of it was dissected.
        class_names: C names of the classes; None for those that a network of `lwta.create_model` carries, or numbers.
        target: index or name of the class to explain; None for the one that is predicted.
        versus: index or name of another class: the contributions are then to the difference of the two logits.
        draws: how often the winners are drawn, at least 1. Probabilities are averaged over the draws; the neurons and
            contributions are those of the first draw.
        seed: seed of the draws, at least 0.

    Raises:
        ValueError: a layer was not dissected, ``transform`` is None for a dissection opened from a store, there are not
            as many names as classes, ``target`` or ``versus`` is none of them or both are the same, or ``draws`` is
            below 1; or the image cannot be converted to RGB, see `lwta.images.decoding`.
        TypeError: ``image`` is not a PIL image, or the model does not return logits (1, C).
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"image must be a PIL image, got {type(image).__name__}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    class_names = class_names_of(model) if class_names is None else class_names
    names = dissection.layers if layers is None else list(layers)
    labels = {name: dissection.labels(name, runner_ups=0) for name in names}
    modules = {key: dissection.recording.module(key) for key in names}
    transform = transform or dissection.transform
    if transform is None:
        raise ValueError("transform must be given: the dissection was opened from a store, which holds none")
    with evaluating(model) as place, torch.inference_mode(False), torch.enable_grad():
        # the input asks for a gradient so that frozen networks have one too
        inputs = transform(to_rgb(image)).unsqueeze(0).to(place).requires_grad_()
        run = _run(model, list(dict.fromkeys(modules.values())), dissection.recording.pool, inputs, seed)
        _check_logits(run.logits, class_names)
        chances = _probabilities(model, run.logits, inputs, draws, seed)
        predicted = int(chances.mean(0).argmax())
        explained, other = _question(target, versus, predicted, class_names, chances.shape[1])
        logits = run.logits[0]
        objective = logits[explained] if other is None else logits[explained] - logits[other]
        prefix = prefix_tokens(model)
        found = {
            tap.name: _active_neurons(tap, output.detach(), contributions, prefix)
            for tap, output, contributions in run.contributions(objective)
        }
        evidence = {key: _named(found[modules[key]], key, labels[key]) for key in modules}
        logits, objective = logits.detach(), objective.detach()
    called = class_names or [f"class {i}" for i in range(len(logits))]
    return Explanation(
        predicted=predicted,
        class_name=called[predicted],
        probability=float(chances.mean(0)[predicted]),
        logit=float(logits[predicted]),
        target=explained,
        target_name=called[explained],
        versus=other,
        versus_name=None if other is None else called[other],
        explained_logit=float(objective),
        draws=draws,
        probabilities=_most_probable(chances, called, {explained, other}),
        evidence=evidence,
        seen=seen(inputs),
    )


class _Run(NamedTuple):
    """One forward pass of the network: its logits and the outputs of its layers, still in the graph."""

    logits: Tensor
    taps: list[Tap]
    outputs: list[Tensor]

    def contributions(self, objective: Tensor) -> Iterator[tuple[Tap, Tensor, Tensor]]:
        """Yield each layer's tap, its output, and its attribution: output times gradient of the objective."""
        gradients = torch.autograd.grad(objective, self.outputs, allow_unused=True)
        for tap, output, gradient in zip(self.taps, self.outputs, gradients, strict=True):
            yield tap, output, (torch.zeros_like(output) if gradient is None else output * gradient).detach()


def _run(model: nn.Module, names: Sequence[str], pool: Pool, inputs: Tensor, seed: int) -> _Run:
    with tapped(model, names, pool) as taps, _kept_outputs(model, names) as outputs:
        with seeded(derive(seed, 0), inputs.device):
            logits = model(inputs)
        return _Run(logits, taps, [outputs[name] for name in names])  # the layers may have run in another order


def _probabilities(model: nn.Module, logits: Tensor, inputs: Tensor, draws: int, seed: int) -> Tensor:
    """Class probabilities of each draw, (draws, C); the first draw is that of ``logits``."""
    rows = [logits.detach()]
    with torch.no_grad():
        for draw in range(1, draws):
            with seeded(derive(seed, 0, draw), inputs.device):
                rows.append(model(inputs))
    return torch.cat(rows).float().softmax(1)


def _question(
    target: int | str | None, versus: int | str | None, predicted: int, names: Sequence[str] | None, classes: int
) -> tuple[int, int | None]:
    """Return the index of the class to explain, and of the class to compare it with or None."""
    wanted = class_index("target", target, names, classes)
    explained = predicted if wanted is None else wanted
    other = class_index("versus", versus, names, classes)
    if explained == other:
        raise ValueError(f"versus must be another class than the one explained, {versus!r} is that one")
    return explained, other


def _most_probable(chances: Tensor, names: Sequence[str], wanted: Collection[int | None]) -> list[ClassProbability]:
    """Return the five classes of the highest mean of (draws, C) probabilities, and those that are wanted."""
    order = chances.mean(0).argsort(descending=True, stable=True).tolist()
    chosen = order[:5] + [index for index in order[5:] if index in wanted]
    spread = chances.std(0, correction=0)
    return [ClassProbability(i, names[i], float(chances[:, i].mean()), float(spread[i])) for i in chosen]


def _check_logits(logits: object, class_names: Sequence[str] | None) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"model must give logits of shape (1, C) for one image, got {seen}")
    if class_names is not None and len(class_names) != logits.shape[1]:
        raise ValueError(f"class_names must name the {logits.shape[1]} classes of the model, got {len(class_names)}")


@contextmanager
def _kept_outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Context in which the layers' last outputs are kept by name, still in the graph."""
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in find_layers(model, names).items():

            def keep(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> Tensor:
                outputs[name] = output
                return output.clone()  # so that nothing behind the layer overwrites what is kept

            stack.callback(module.register_forward_hook(keep).remove)
        yield outputs


def _active_neurons(tap: Tap, output: Tensor, contributions: Tensor, prefix: int | None) -> list[Evidence]:
    """Evidence of a module's active neurons, without concepts, by the size of their contribution; ties by number."""
    activations = tap.take(["image"])
    by_position = contributions.movedim(tap.axis, -1).reshape(-1, activations.neurons)
    totals = (by_position[:1] if tap.pool == "cls" else by_position).sum(0).tolist()
    listed = [
        Evidence(tap.name, neuron, None, value, share, totals[neuron]) for neuron, value, share in _active(activations)
    ]
    listed.sort(key=lambda one: -abs(one.contribution))
    maps = positions(output.movedim(tap.axis, -1), prefix)
    if maps is None:
        return listed
    mapped = [replace(one, where=maps[one.neuron].float().cpu()) for one in listed[:MAPPED]]
    return mapped + listed[MAPPED:]


def _named(evidence: Sequence[Evidence], layer: str, labels: Sequence[Label]) -> list[Evidence]:
    """Evidence of a module as that of a layer made of it, with the labels of its neurons."""
    return [
        replace(one, layer=layer, concept=label.concept, words=tuple(w for w, _ in label.words), reason=label.reason)
        for one, label in ((one, labels[one.neuron]) for one in evidence)
    ]


def _active(activations: Activations) -> Iterator[tuple[int, float, float]]:
    """Yield number, pooled output and share of the positions won of every neuron that is active on the one image."""
    if isinstance(activations, WinnerActivations):
        columns = (activations.units, activations.values, activations.shares)
        yield from zip(*(column.tolist() for column in columns), strict=True)
    else:
        yield from ((neuron, value, 1.0) for neuron, value in enumerate(activations.values[0].tolist()) if value != 0)
