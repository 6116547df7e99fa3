"""One image: which neurons were active, what they stand for, where, and what they did for the class."""

from lwta.dissection.explaining.attribution import explain
from lwta.dissection.explaining.explanation import Explained, Explanation
from lwta.dissection.explaining.findings import ClassProbability, Evidence

__all__ = ["ClassProbability", "Evidence", "Explained", "Explanation", "explain"]
