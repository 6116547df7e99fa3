"""What does each neuron stand for? CLIP, probing sets, similarities, explanations, report."""

from lwta.dissection.clip import ClipEncoder
from lwta.dissection.concepts import Concepts
from lwta.dissection.dissect import dissect
from lwta.dissection.embeddings import Embeddings
from lwta.dissection.explain import Evidence, Explanation, explain
from lwta.dissection.probe import Probe
from lwta.dissection.result import Dissection, Label
from lwta.dissection.similarity import JSD, SIMILARITIES, WPMI, Cos, CosCubed, RankReorder, SoftWPMI

__all__ = [
    "JSD",
    "SIMILARITIES",
    "WPMI",
    "ClipEncoder",
    "Concepts",
    "Cos",
    "CosCubed",
    "Dissection",
    "Embeddings",
    "Evidence",
    "Explanation",
    "Label",
    "Probe",
    "RankReorder",
    "SoftWPMI",
    "dissect",
    "explain",
]
