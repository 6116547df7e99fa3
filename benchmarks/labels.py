"""Labels judged: every labeler on real networks, by photographs that did not choose the labels.

Photographs, embeddings and networks are those of the folder of shared data; where it is missing no label is judged.
Rows are of six kinds. "hidden": labels of a layer chosen on one random half of the photographs and judged on the other,
means over the halves. "example": two neurons of it. "outputs": known output neurons of SqueezeNet. "curve": precision
and coverage of the labels shown of them, by threshold. "scale": `benchmarks.label_scale`. "cost":
`benchmarks.label_cost`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor

from benchmarks import label_cost, label_scale
from benchmarks.networks import DATA, Network, cifar_resnet, squeezenet, wide_resnet
from lwta.dissection import Embeddings, dissect
from lwta.dissection.labels.choosing import Chosen, choose
from lwta.dissection.moments.measuring import sample_of
from lwta.dissection.moments.sample import Sample
from lwta.dissection.recording.recording import Recording
from lwta.dissection.scoring.judges import concept_probabilities, judge_probabilities
from lwta.dissection.scoring.trust_figures import shuffled
from lwta.dissection.similarity import SIMILARITIES, Linear, Similarity
from lwta.dissection.similarity.base import contrasts
from lwta.dissection.trust.abstention import Abstention
from lwta.support.text import normal_spelling

HALVES = 5
"""Random halves of the photographs."""
POINTS = 300
"""Images of an example."""
PHOTOGRAPHS = DATA / "caltech101-val.zip"
EMBEDDINGS = DATA / "caltech101-val-clip-vit-b-32.npz"

LABELERS: Mapping[str, str | Callable[[], Similarity]] = {
    **{name: name for name in SIMILARITIES},
    "linear, ten words": partial(Linear, 10),
}


class Case(NamedTuple):
    """Network of which some layers are labelled."""

    name: str
    make: Callable[[], Network]
    layers: tuple[str, ...]


HIDDEN = (
    Case("ResNet-56", partial(cifar_resnet, 56), ("layer2", "layer3")),
    Case("LWTA WideResNet", wide_resnet, ("lwta",)),
    Case("SqueezeNet", squeezenet, ("features.5", "features.12")),
    Case("ResNet-56, untrained", partial(cifar_resnet, 56, trained=False), ("layer3",)),
)
QUICK = (Case("ResNet-20", partial(cifar_resnet, 20), ("layer3",)),)

PHOTOGRAPHED: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("flamingo", "dalmatian", "dragonfly", "starfish", "barrel", "saxophone", "cougar")},
    **{name: (name,) for name in ("soccer ball", "umbrella", "strawberry", "pizza", "laptop computer", "giant panda")},
    "binoculars": ("binoculars",),
    "grand piano": ("piano",),
    "electric guitar": ("guitar",),
    "table lamp": ("table lamp", "lamp", "lampshade"),
    "revolver": ("pistol",),
    "digital watch": ("watch",),
    "african bush elephant": ("elephant",),
    "moped": ("motorcycle", "motor scooter"),
    "airliner": ("airplane", "jet plane"),
    "mobile phone": ("cellular telephone",),
    "reflex camera": ("camera",),
    "traffic or street sign": ("stop sign", "street sign"),
    "rooster": ("cock",),
    "crayfish": ("crawfish",),
}
"""Classes of ImageNet of which there are five photographs or more, and the concepts that name them."""


def run(quick: bool = False, only: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row for each layer and labeler, then those of known outputs, of the curve, of the scale, and of the cost.

    Args:
        quick: one small network and two halves, which show that everything runs and no more.
        only: "hidden", "outputs", "scale" or "cost", to measure that alone.

    Raises:
        RuntimeError: the folder of shared data is missing, or a measurement failed.
    """
    wanted = [part for part in ("hidden", "outputs", "scale", "cost") if part.startswith(only)]
    if "hidden" in wanted or "outputs" in wanted:
        yield from _judgements(wanted, quick)
    if "scale" in wanted:
        yield from label_scale.run(quick)
    if "cost" in wanted:
        yield from label_cost.run(quick)


def _judgements(wanted: Sequence[str], quick: bool) -> Iterator[dict[str, Any]]:
    """Rows of labels that are judged by photographs."""
    if not EMBEDDINGS.exists():
        raise RuntimeError(f"labels are judged on photographs, which are missing: {DATA}")
    clip = Embeddings.load(EMBEDDINGS)
    texts = clip.encode_texts(clip.concepts)
    for case in () if "hidden" not in wanted else QUICK if quick else HIDDEN:
        recording = _recorded(case, clip)
        for layer in case.layers:
            sample = sample_of(recording, layer)
            for labeler in LABELERS:
                yield _hidden(case.name, sample, layer, labeler, texts, 2 if quick else HALVES)
            yield from _examples(case.name, sample, layer, clip.concepts, texts)
    if "outputs" in wanted and not quick:
        yield from _outputs(clip, texts)


def _recorded(case: Case, clip: Embeddings) -> Recording:
    """Record layers of a network on the photographs."""
    network = case.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dissect(
            network.model,
            case.layers,
            PHOTOGRAPHS,
            clip=clip,
            concepts=clip.concepts,
            similarity="correlation",
            transform=network.transform,
        ).recording


def halves(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images of two random halves, int64 in rising order."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return order[: images // 2].sort().values, order[images // 2 :].sort().values


def part(sample: Sample, rows: Tensor) -> Sample:
    """Return the sample of some of its images."""
    (layer,) = sample.chosen.values()
    keys = [sample.keys[row] for row in rows.tolist()]
    return Sample(keys, layer, sample.heads, sample.features[rows], sample.values[rows])


def _hidden(network: str, sample: Sample, layer: str, labeler: str, texts: Tensor, count: int) -> dict[str, Any]:
    """Row of a layer and a labeler."""
    similarity, found, seconds = LABELERS[labeler], [], 0.0
    for seed in range(count):
        first, second = (part(sample, rows) for rows in halves(len(sample.keys), seed))
        started = time.process_time()
        chosen = choose(first, similarity, texts, layers=[layer])[layer]
        seconds += time.process_time() - started
        found.append(judged(chosen, first, second, texts))
    noise = choose(sample.changed(shuffled(sample.values)), similarity, texts, layers=[layer])[layer]
    means = {name: _mean([one[name] for one in found]) for name in found[0]}
    return {
        "kind": "hidden",
        "network": network,
        "layer": layer,
        "neurons": sample.values.shape[1],
        "labeler": labeler,
        "halves": count,
        **means,
        "shuffled_labelled": _labelled(noise, sample.values),
        "seconds": round(seconds / count, 2),
    }


def _examples(
    network: str, sample: Sample, layer: str, concepts: Sequence[str], texts: Tensor
) -> Iterator[dict[str, Any]]:
    """Rows of the neurons of largest and least r: activation and prediction on a half that was left out."""
    first, second = (part(sample, rows) for rows in halves(len(sample.keys), 0))
    chosen = choose(first, "linear", texts, layers=[layer])[layer]
    predicted = predictions(chosen, first, second, texts)
    r = _correlations(predicted, second.values.double()).diagonal().nan_to_num(nan=0)
    reasons = Abstention().reasons(chosen.trust, (first.values != 0).any(0))
    shown = torch.tensor([reason is None for reason in reasons])
    best = int(torch.where(shown, r, -1).argmax())
    worst = int(torch.where(shown | (first.values.std(0) == 0), 2, r).argmin())
    for neuron in (best, worst):
        words = [concepts[concept] for concept, _ in chosen.words_of(neuron)]
        x, y = predicted[:POINTS, neuron], second.values[:POINTS, neuron]
        yield {
            "kind": "example",
            "network": network,
            "layer": layer,
            "neuron": neuron,
            "words": words,
            "reason": reasons[neuron],
            "r": round(float(r[neuron]), 4),
            "own_r": round(float(chosen.trust.r[neuron]), 4),
            "predicted": [float(f"{value:.3g}") for value in x.tolist()],
            "activation": [float(f"{value:.3g}") for value in y.tolist()],
        }


def predictions(chosen: Chosen, first: Sample, second: Sample, texts: Tensor) -> Tensor:
    """What the words of each neuron, chosen on the first sample, predict on the images of the second, (n, D)."""
    directions = contrasts(texts.double())
    deviations = (first.features.double() @ directions.T).std(0, correction=0).clamp_min(1e-12)
    weights = torch.zeros(len(chosen.words.concepts), len(texts), dtype=torch.float64)
    weights.scatter_add_(1, chosen.words.concepts.clamp(min=0), chosen.words.weights)
    return (second.features.double() @ directions.T / deviations) @ weights.T


def judged(chosen: Chosen, first: Sample, second: Sample, texts: Tensor) -> dict[str, float]:
    """Figures, on the second sample, of labels that were chosen on the first.

    They are computed from the activations and predictions of all images, not from moments.
    """
    r = _correlations(predictions(chosen, first, second, texts), second.values.double())
    alive = (first.values.std(0) > 0) & (second.values.std(0) > 0)
    own = r.diagonal()
    apart = (r.nan_to_num(nan=-2).argmax(1) == torch.arange(len(r))) & ~own.isnan()
    probabilities = concept_probabilities(second.features, texts, chosen.words.concepts[:, 0])
    judges = judge_probabilities(second.values, probabilities)
    return {
        "told_apart": float(apart[alive].double().mean()),
        "r": float(own[alive].nanmean()),
        "own_told_apart": float(chosen.trust.told_apart[alive].double().mean()),
        "own_r": float(chosen.trust.r[alive].nanmean()),
        "labelled": _labelled(chosen, first.values),
        "auprc": float(judges.auprc.nanmean()),
        "f1": float(judges.f1.nanmean()),
        "iou": float(judges.iou.nanmean()),
        "probability_r": float(judges.probability_r.nanmean()),
        "words": float((chosen.words.weights > 0).sum(1).double().mean()),
    }


def _correlations(predicted: Tensor, values: Tensor) -> Tensor:
    """Correlations [i, j] of prediction i with neuron j, (D, D) float64."""
    p, a = (x - x.mean(0) for x in (predicted, values))
    return (p / p.norm(dim=0)).T @ (a / a.norm(dim=0))


def _labelled(chosen: Chosen, values: Tensor) -> float:
    """Share of the neurons that are not dead which keep a label."""
    active = (values != 0).any(0)
    kept = [reason is None for reason in Abstention().reasons(chosen.trust, active)]
    return sum(kept) / max(int(active.sum()), 1)


def _outputs(clip: Embeddings, texts: Tensor) -> Iterator[dict[str, Any]]:
    """Rows of the output neurons of SqueezeNet, after a softmax and as logits, and the curves."""
    recording = _recorded(Case("SqueezeNet", squeezenet, ("classifier", "classifier:identity")), clip)
    known = _Known(clip.concepts)
    for layer, function in (("classifier", "softmax"), ("classifier:identity", "logits")):
        sample = sample_of(recording, layer)
        for labeler in LABELERS:
            chosen = choose(sample, LABELERS[labeler], texts, layers=[layer])[layer]
            by_half = []
            for seed in range(HALVES if function == "softmax" else 0):
                half = part(sample, halves(len(sample.keys), seed)[0])
                by_half.append(known.named(choose(half, LABELERS[labeler], texts, layers=[layer])[layer]))
            yield {
                "kind": "outputs",
                "network": "SqueezeNet",
                "layer": function,
                "labeler": labeler,
                **known.named(chosen),
                "halves_top1": _mean([one["top1"] for one in by_half]),
                "halves_top5": _mean([one["top5"] for one in by_half]),
                "coverage_at_70": known.coverage_at(chosen, 0.7),
            }
            if function == "softmax" and labeler in ("peak", "soft_wpmi", "correlation"):
                yield from known.curve(chosen, labeler)


class _Known:
    """Output neurons of which the class is known, and the concepts that name it."""

    def __init__(self, concepts: Sequence[str]) -> None:
        places: dict[str, int] = {}
        for place, concept in enumerate(concepts):
            places.setdefault(normal_spelling(concept.partition("_(")[0]), place)
        names = [normal_spelling(name) for name in open_clip.IMAGENET_CLASSNAMES]
        self._right: dict[int, set[int]] = {}
        """Concepts that name a neuron's class: every class whose name is a concept."""
        for neuron, name in enumerate(names):
            accepted = PHOTOGRAPHED.get(name, (name,))
            found = {places[normal_spelling(one)] for one in accepted if normal_spelling(one) in places}
            if found:
                self._right[neuron] = found
        self._photographed = [names.index(name) for name in PHOTOGRAPHED if names.index(name) in self._right]

    def named(self, chosen: Chosen) -> dict[str, Any]:
        """Share of the photographed classes that are named right, first and within five; precision of labels shown."""
        shown = self._shown(chosen, Abstention())
        right = [neuron for neuron in shown if self._is_right(chosen, neuron)]
        best = {n: self._best(chosen, n) for n in self._photographed}
        kept = [neuron for neuron in self._photographed if neuron in shown]
        return {
            "classes": len(self._photographed),
            "top1": _mean([best[n][0] in self._right[n] for n in self._photographed]),
            "top5": _mean([bool(self._right[n] & set(best[n])) for n in self._photographed]),
            "nameable": len(self._right),
            "shown": len(shown),
            "precision": len(right) / len(shown) if shown else 1.0,
            "kept": len(kept) / len(self._photographed),
        }

    def curve(self, chosen: Chosen, labeler: str) -> Iterator[dict[str, Any]]:
        """Rows of precision and coverage, by the threshold of r."""
        for threshold in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
            shown = self._shown(chosen, Abstention(r=threshold))
            right = [neuron for neuron in shown if self._is_right(chosen, neuron)]
            kept = [neuron for neuron in self._photographed if neuron in shown]
            yield {
                "kind": "curve",
                "labeler": labeler,
                "threshold": threshold,
                "shown": len(shown),
                "precision": len(right) / len(shown) if shown else 1.0,
                "kept": len(kept) / len(self._photographed),
            }

    def coverage_at(self, chosen: Chosen, precision: float) -> float:
        """Largest share of the photographed classes that keep their label where labels shown are that precise."""
        covered = [0.0]
        for threshold in torch.arange(0, 0.9, 0.02).tolist():
            shown = self._shown(chosen, Abstention(r=threshold))
            right = sum(self._is_right(chosen, neuron) for neuron in shown)
            if shown and right / len(shown) >= precision:
                covered.append(sum(neuron in shown for neuron in self._photographed) / len(self._photographed))
        return max(covered)

    def _shown(self, chosen: Chosen, rule: Abstention) -> set[int]:
        """Neurons whose class could be named that keep their label."""
        reasons = rule.reasons(chosen.trust, torch.ones(len(chosen.scores), dtype=torch.bool))
        return {neuron for neuron in self._right if reasons[neuron] is None}

    def _best(self, chosen: Chosen, neuron: int) -> list[int]:
        """Label and runners-up, five in all."""
        first = int(chosen.words.concepts[neuron, 0])
        ranked = chosen.scores[neuron].argsort(descending=True).tolist()
        return [first, *(concept for concept in ranked[:6] if concept != first)][:5]

    def _is_right(self, chosen: Chosen, neuron: int) -> bool:
        return int(chosen.words.concepts[neuron, 0]) in self._right[neuron]


def _mean(values: list[Any]) -> float | None:
    return round(sum(map(float, values)) / len(values), 4) if values else None
