"""Scores: how good a dissection is, and how readable a network."""

from lwta.dissection.scoring.identification import Identification
from lwta.dissection.scoring.layer_figures import LayerScores
from lwta.dissection.scoring.neuron_figures import NeuronScores, neuron_scores
from lwta.dissection.scoring.scores import Scores, compare

__all__ = ["Identification", "LayerScores", "NeuronScores", "Scores", "compare", "neuron_scores"]
