"""Vision networks that can be read: competition instead of activation functions, and words for every neuron."""

from typing import TYPE_CHECKING, Any

from lwta import functional
from lwta.calibration import calibrate
from lwta.competition import Competition
from lwta.conversion import convert
from lwta.layers import LWTA, LWTAConv2d, LWTALinear, LWTAMlp
from lwta.loss import ELBOLoss
from lwta.models import create_model, list_models
from lwta.models.checkpoint import load_checkpoint
from lwta.models.saving import load_model, save_model
from lwta.network import average_logits, competitions, kl_divergence, set_eval_mode, set_temperature
from lwta.schedule import TemperatureSchedule
from lwta.support.version import __version__
from lwta.winner_usage import Usage, usage
from lwta.winners import Winners

if TYPE_CHECKING:
    from lwta.training import train


__all__ = [
    "LWTA",
    "Competition",
    "ELBOLoss",
    "LWTAConv2d",
    "LWTALinear",
    "LWTAMlp",
    "TemperatureSchedule",
    "Usage",
    "Winners",
    "__version__",
    "average_logits",
    "calibrate",
    "competitions",
    "convert",
    "create_model",
    "functional",
    "kl_divergence",
    "list_models",
    "load_checkpoint",
    "load_model",
    "save_model",
    "set_eval_mode",
    "set_temperature",
    "train",
    "usage",
]


def __getattr__(name: str) -> Any:
    """Return `lwta.train`, whose import loads timm's optimisers and data, so that it waits until it is asked for."""
    if name == "train":
        from lwta.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
