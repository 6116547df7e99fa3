"""What does each neuron stand for? CLIP, probing sets, similarities, explanations, scores, report."""

from lwta.dissection.audit import Audit
from lwta.dissection.clip import ClipEncoder
from lwta.dissection.concepts import Concepts
from lwta.dissection.dissect import dissect
from lwta.dissection.embeddings import Embeddings
from lwta.dissection.explaining import ClassProbability, Evidence, Explained, Explanation, explain
from lwta.dissection.result import Dissection, Label
from lwta.dissection.scoring import Identification, LayerScores, Scores, compare
from lwta.dissection.search import Found
from lwta.dissection.similarity import JSD, SIMILARITIES, WPMI, Cos, CosCubed, RankReorder, SoftWPMI
from lwta.dissection.store import open_store
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
