"""Vision networks with competition: architectures, configurations, checkpoints and model folders."""

from lwta.models.config import ModelConfig, config_of
from lwta.models.registry import build, create_model, list_models

__all__ = ["ModelConfig", "build", "config_of", "create_model", "list_models"]
