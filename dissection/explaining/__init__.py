"""One image: which neurons fired, what they stand for, where, and what they did for the class."""

from lwta.dissection.explaining.explain import explain
from lwta.dissection.explaining.explanation import ClassProbability, Evidence, Explained, Explanation

__all__ = ["ClassProbability", "Evidence", "Explained", "Explanation", "explain"]
