"""The check of labels with CLIP embeddings of photographs, and neurons that are known to see one class each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lwta.dissection import Concepts, Dissection, Embeddings, Probe, SoftWPMI
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.one_pass import Encoded
from lwta.dissection.recording.recording import MemoryRecording
from lwta.dissection.scoring.held_out import Part, is_held_out
from lwta.dissection.scoring.label_auc import concept_aucs, confidence, contrasts
from lwta.dissection.scoring.neuron_figures import frequent_classes
from lwta.dissection.similarity import similarities_of
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
    scores = similarities_of(recording, SoftWPMI, concepts.encode(clip))
    probe = Probe.of([(key, None) for key in keys])
    return Dissection(None, None, probe, clip, recording, concepts, "soft_wpmi", scores)


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
    assert 400 < scores.held_out < 600
    assert row.auc_low > 0.95


def test_shuffled_concepts_predict_nothing(seen: Dissection) -> None:
    held_out = Part(seen.recording, lambda key: is_held_out(key, 0.3))
    spelling = {normal_spelling(name): i for i, name in enumerate(seen.concepts.names)}
    concepts = torch.tensor([spelling[normal_spelling(name)] for name in names(seen)])
    texts = contrasts(concepts, seen.concepts.encode(seen.clip))
    right = confidence(concept_aucs(held_out, "classes", texts))
    # every concept at every neuron but its own: no luck of one shuffle is in the mean
    wrong = [confidence(concept_aucs(held_out, "classes", texts.roll(shift, 0))) for shift in range(1, len(texts))]
    mean = sum(one.mean for one in wrong) / len(wrong)
    covered = sum(one.low < 0.5 < one.high for one in wrong) / len(wrong)
    print(f"right {right.mean:.3f}, wrong {mean:.3f}; {covered:.0%} of the intervals hold 0.5")
    assert right.low > 0.95
    assert mean == pytest.approx(0.5, abs=0.03)
    assert covered > 0.8
