"""Similarities of neurons with concepts: how alike activations and a concept are over the probing set."""

from lwta.dissection.similarity.base import FromMoments, Similarity, Words
from lwta.dissection.similarity.correlation import Correlation
from lwta.dissection.similarity.cos import Cos
from lwta.dissection.similarity.cos_cubed import CosCubed
from lwta.dissection.similarity.jsd import JSD
from lwta.dissection.similarity.linear import Linear
from lwta.dissection.similarity.peak import Peak
from lwta.dissection.similarity.rank_reorder import RankReorder
from lwta.dissection.similarity.registry import (
    AUTO,
    SIMILARITIES,
    check_concepts,
    find_similarity,
    scoring_device,
    similarity_of_layer,
)
from lwta.dissection.similarity.score_layers import similarities_of
from lwta.dissection.similarity.soft_wpmi import SoftWPMI
from lwta.dissection.similarity.specific import Specific
from lwta.dissection.similarity.wpmi import WPMI

__all__ = [
    "AUTO",
    "JSD",
    "SIMILARITIES",
    "WPMI",
    "Correlation",
    "Cos",
    "CosCubed",
    "FromMoments",
    "Linear",
    "Peak",
    "RankReorder",
    "Similarity",
    "SoftWPMI",
    "Specific",
    "Words",
    "check_concepts",
    "find_similarity",
    "scoring_device",
    "similarities_of",
    "similarity_of_layer",
]
