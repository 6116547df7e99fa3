"""The check of labels with CLIP embeddings of photographs, and neurons that are known to see one class each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lwta.dissection import Concepts, Dissection, Embeddings, Probe
from lwta.dissection.labels.choosing import choose
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.one_pass import Encoded
from lwta.dissection.recording.recording import MemoryRecording
from lwta.dissection.scoring.neuron_figures import frequent_classes
from lwta.dissection.similarity import Words
from lwta.dissection.trust.abstention import Abstention
from lwta.dissection.trust.cross_validation import Trust, cross_validated
from lwta.support.text import normal_spelling


def real(folder: Path) -> dict[str, np.ndarray]:
    """Photographs of Caltech-101 as CLIP ViT-B/32 sees them, and the categories of LVIS."""
    return dict(np.load(folder / "caltech101-val-clip-vit-b-32.npz"))


def drawn() -> dict[str, np.ndarray]:
    """Embeddings as like each other as CLIP's: 1,600 images of 50 classes, near them the names of 40, and 400 more."""
    random = np.random.default_rng(0)
    classes, others = random.standard_normal((50, 64)), random.standard_normal((400, 64))
    labels = np.arange(1600) % 50
    rows = classes[labels] + 0.9 * random.standard_normal((1600, 64))
    texts = np.concatenate([classes[:40] + 0.5 * random.standard_normal((40, 64)), others])
    return {
        "image_paths": np.array([f"class {label:02d}/image_{i:04d}.jpg" for i, label in enumerate(labels)]),
        "image_labels": np.array([f"class {label:02d}" for label in labels]),
        "image_features": rows + 3,
        "concepts": np.array([f"Class_{i:02d}" if i < 40 else f"other {i}" for i in range(440)]),
        "text_features": texts - 2,
    }


@pytest.fixture(scope="module", params=["drawn", "real"])
def seen(request: pytest.FixtureRequest) -> Dissection:
    """A neuron for each class whose name is a concept, excited by the photographs of the class alone."""
    arrays = drawn() if request.param == "drawn" else real(request.getfixturevalue("shared_data"))
    clip = Embeddings.load(arrays)
    keys, labels = ([str(value) for value in arrays[name]] for name in ("image_paths", "image_labels"))
    concepts = Concepts(clip.concepts)
    known = {normal_spelling(name) for name in concepts.names}
    classes = [name for name in sorted(set(labels)) if normal_spelling(name) in known]
    generator = torch.Generator().manual_seed(0)
    belongs = torch.tensor([[label == name for name in classes] for label in labels])
    activations = DenseActivations(belongs * (0.5 + torch.rand(belongs.shape, generator=generator)))
    batch = Encoded(0, keys, labels, clip.encode_images(keys, None), {"classes": activations}, [])
    recording = MemoryRecording([batch], [], "auto")
    chosen = choose(recording, "soft_wpmi", concepts.encode(clip))
    probe = Probe.of([(key, None) for key in keys])
    return Dissection(None, None, probe, clip, recording, concepts, "soft_wpmi", chosen)


def names(seen: Dissection) -> list[str]:
    """Of the neurons: each has the class of its images."""
    return [labels[0][0] for labels in frequent_classes(seen.recording, "classes")]


def test_neurons_of_one_class_are_identified_and_predicted(seen: Dissection) -> None:
    scores = seen.scores(names(seen), "classes")
    (row,), found = scores.layers, scores.identification
    assert found is not None
    assert found.nameable == found.neurons == row.neurons
    assert found.top5 > 0.8
    assert found.top1 <= found.top5
    assert found.clip_cosine > 0.9
    assert row.labelled == row.told_apart == 1
    assert 0.4 < row.r < row.ceiling
    assert row.auprc > 0.8
    assert row.stable < 1.5
    shuffles, of_others, _ = row.controls
    assert shuffles.labelled == 0
    assert shuffles.told_apart < 0.2
    assert abs(shuffles.r) < 0.03
    assert abs(of_others.r) < 0.03


@pytest.mark.parametrize("similarity", ["correlation", "specific", "linear", "peak", "cos"])
def test_every_labeler_tells_such_neurons_apart(seen: Dissection, similarity: str) -> None:
    result = seen.relabel(similarity=similarity)
    true = [normal_spelling(name) for name in names(seen)]
    labels = result.labels("classes", runner_ups=4)
    assert sum(label.concept is not None for label in labels) >= 0.95 * len(true)
    words = [[label.closest or "", *(word for word, _ in label.runner_ups)] for label in labels]
    ranked = [[normal_spelling(word) for word in of_neuron] for of_neuron in words]
    assert sum(name in found for name, found in zip(true, ranked, strict=True)) >= 0.95 * len(true)
    assert sum(name == found[0] for name, found in zip(true, ranked, strict=True)) >= 0.75 * len(true)


def test_wrong_words_predict_nothing(seen: Dissection) -> None:
    texts, moments = seen.concepts.encode(seen.clip), moments_of(seen.recording, "classes")
    spelling = {normal_spelling(name): i for i, name in enumerate(seen.concepts.names)}
    concepts = torch.tensor([spelling[normal_spelling(name)] for name in names(seen)])

    def judged(concepts: Tensor) -> Trust:
        words = Words(concepts[:, None], torch.ones(len(concepts), 1).double())
        return cross_validated(moments, lambda _: [words], texts).trust

    right = judged(concepts)
    # every concept at every neuron but its own: no luck of one shuffle is in the mean
    wrong = [judged(concepts.roll(shift)) for shift in range(1, len(concepts))]
    mean = sum(float(one.r.mean()) for one in wrong) / len(wrong)
    reasons = [Abstention().reasons(one, torch.ones(len(concepts)).bool()) for one in wrong]
    labelled = sum(reason is None for one in reasons for reason in one) / len(wrong) / len(concepts)
    print(f"right {right.r.mean():.3f}, wrong {mean:.3f}, of which {labelled:.1%} are labels")
    assert right.told_apart.float().mean() > 0.95
    assert (right.low > 0.2).float().mean() > 0.9
    assert float(right.null_percentile.min()) > 95
    assert mean == pytest.approx(0, abs=0.03)
    assert labelled < 0.01
    torch.testing.assert_close(right.of_others, torch.stack([one.r for one in wrong]).mean(0), rtol=0, atol=1e-4)
