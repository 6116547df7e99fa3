"""How good is a dissection, and how readable a network?"""

from lwta.dissection.scoring.identification import Identification
from lwta.dissection.scoring.layers import LayerScores
from lwta.dissection.scoring.neurons import NeuronScores, neuron_scores
from lwta.dissection.scoring.scores import Scores, compare

__all__ = ["Identification", "LayerScores", "NeuronScores", "Scores", "compare", "neuron_scores"]
