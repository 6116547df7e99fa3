"""Explanations of one image: which neurons were active, where, what they stand for and contribute to the class."""

from lwta.dissection.explaining.attribution import explain
from lwta.dissection.explaining.explanation import Explained, Explanation
from lwta.dissection.explaining.findings import ClassProbability, Evidence

__all__ = ["ClassProbability", "Evidence", "Explained", "Explanation", "explain"]
