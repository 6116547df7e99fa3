"""Dissection: what does each neuron stand for? CLIP, probing sets, similarities, explanations, scores, reports."""

from lwta.dissection.dissecting import dissect
from lwta.dissection.explaining import ClassProbability, Evidence, Explained, Explanation, explain
from lwta.dissection.labels.audit import Audit
from lwta.dissection.labels.label import Label
from lwta.dissection.labels.search import Found
from lwta.dissection.opening import open_store
from lwta.dissection.recording.layers import Layer
from lwta.dissection.result import Dissection
from lwta.dissection.scoring import Identification, LayerScores, Scores, compare
from lwta.dissection.similarity import JSD, SIMILARITIES, WPMI, Cos, CosCubed, RankReorder, SoftWPMI
from lwta.dissection.words.clip import ClipEncoder
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.embeddings import Embeddings
from lwta.images import Probe

__all__ = [
    "JSD",
    "SIMILARITIES",
    "WPMI",
    "Audit",
    "ClassProbability",
    "ClipEncoder",
    "Concepts",
    "Cos",
    "CosCubed",
    "Dissection",
    "Embeddings",
    "Evidence",
    "Explained",
    "Explanation",
    "Found",
    "Identification",
    "Label",
    "Layer",
    "LayerScores",
    "Probe",
    "RankReorder",
    "Scores",
    "SoftWPMI",
    "compare",
    "dissect",
    "explain",
    "open_store",
]
