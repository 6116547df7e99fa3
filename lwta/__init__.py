"""Vision networks that can be read: competition instead of activation functions, and words for every neuron."""

from lwta import functional
from lwta.convert import convert
from lwta.layers import LWTA, Competition, LWTAConv2d, LWTALinear, LWTAMlp
from lwta.network import average_logits, competitions, kl_divergence, set_eval_mode, set_temperature
from lwta.winners import Winners

__version__ = "0.1.0"

__all__ = [
    "LWTA",
    "Competition",
    "LWTAConv2d",
    "LWTALinear",
    "LWTAMlp",
    "Winners",
    "average_logits",
    "competitions",
    "convert",
    "functional",
    "kl_divergence",
    "set_eval_mode",
    "set_temperature",
]
