"""Configuration of a network of this package: enough to build it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from torch import nn

from lwta.competition import EvalMode
from lwta.network import competitions

Placement = Literal["everywhere", "branches"]


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, competition and preprocessing of a network, as `lwta.save_model` writes them to config.json."""

    name: str
    """Name of the architecture, one of `lwta.list_models`."""
    competitors: int
    """Competitors in a block, U; 1 is the ordinary network with its own activation functions."""
    num_classes: int
    """Number of outputs."""
    input_size: int
    """Height and width of the images."""
    fused: bool = False
    """Whether the perceptrons of a transformer are `lwta.LWTAMlp`."""
    drop_path: float = 0.0
    """Largest probability of dropping a residual branch in training, reached in the last block; transformers only."""
    placement: Placement = "everywhere"
    """Choice of the activations that compete in a residual network: all of them, or only those within its branches and
    the stem, so that nothing stands between the additions."""
    norm_scale: float = 1.0
    """Initial scale of the batch norms right before a competition, in residual networks."""
    temperature: float = 1.67
    """Temperature τ of the competitions, as in `lwta.LWTA`."""
    eval_mode: EvalMode = "sample"
    """Mode of the competitions in eval mode, as in `lwta.LWTA`."""
    track_kl: bool = False
    """Whether the competitions compute their KL to uniform, as in `lwta.LWTA`."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of each channel, subtracted from images with values in 0…1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel, by which the difference is divided."""
    interpolation: str = "bicubic"
    """Interpolation by which images are resized."""
    crop_pct: float = 1.0
    """Share of the resized image's side that the centre crop keeps in evaluation."""
    class_names: tuple[str, ...] | None = None
    """Names of the outputs, in their order; None where they are not known."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary of types that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ModelConfig:
        """Return the configuration that `to_dict` turned into ``settings``.

        Raises:
            ValueError: a setting is missing or unknown.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(settings.keys() - known)
        missing = sorted({"name", "competitors", "num_classes", "input_size"} - settings.keys())
        if unknown or missing:
            raise ValueError(f"config must have the settings of ModelConfig; missing: {missing}, unknown: {unknown}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return cls(**values)

    @property
    def competition(self) -> dict[str, Any]:
        """Settings of the competition, as keywords of `lwta.LWTA`."""
        return {"temperature": self.temperature, "eval_mode": self.eval_mode, "track_kl": self.track_kl}

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing in timm's words, which `timm.data.resolve_data_config` and `lwta.dissection` read."""
        return {
            "architecture": self.name,
            "input_size": (3, self.input_size, self.input_size),
            "num_classes": self.num_classes,
            "mean": self.mean,
            "std": self.std,
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": "center",
        }


def config_of(model: nn.Module) -> ModelConfig:
    """Return the configuration of a network of `lwta.create_model`, with the settings its competitions have now.

    Raises:
        ValueError: the network is of another origin, or its competitions have different settings.
    """
    config = getattr(model, "lwta_config", None)
    if not isinstance(config, ModelConfig):
        raise ValueError(
            f"model must come from lwta.create_model or lwta.load_model, got {type(model).__name__}, of which nothing "
            "says how to build it again; save its state_dict instead"
        )
    settings: dict[str, Any] = asdict(config)
    for name in config.competition:
        values = {getattr(layer, name) for _, layer in competitions(model)}
        if len(values) > 1:
            raise ValueError(f"the competitions of model must agree in {name}, got {sorted(values)}")
        settings[name] = values.pop() if values else settings[name]
    return ModelConfig.from_dict(settings)


def class_names_of(model: nn.Module | None) -> Sequence[str] | None:
    """Return the names of the outputs that a network of `lwta.create_model` carries, or None."""
    return getattr(getattr(model, "lwta_config", None), "class_names", None)
