"""How networks are trained, by name, with the numbers of the papers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from lwta.schedule import Kind


@dataclass(frozen=True)
class Recipe:
    """Every number that decides how a network is trained."""

    epochs: int
    batch_size: int
    """Images in a step, of all processes together."""
    optimizer: str
    """In timm's words, such as "adamw" or "momentum" (SGD); "sgd" is Nesterov's."""
    lr: float
    lr_batch: int | None = None
    """Batch size for which ``lr`` is meant: the rate used is lr·batch_size/lr_batch. None uses ``lr`` as it is."""
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    """Of the learning rate, in timm's words, such as "cosine" or "step"; follows every step, not every epoch."""
    min_lr: float = 0.0
    warmup_epochs: int = 0
    warmup_lr: float = 1e-6
    decay_epochs: int = 30
    """Epochs between two divisions, of the schedule "step"."""
    decay_rate: float = 0.1
    label_smoothing: float = 0.0
    kl_weight: float = 0.0
    """λ of `lwta.ELBOLoss`."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    ema: float | None = None
    """Decay of the moving average of the weights, which is then what is evaluated and saved."""
    temperature: float = 1.67
    temperature_schedule: Kind = "constant"
    """Of `lwta.TemperatureSchedule`, a step an epoch."""
    temperature_end: float = 0.3
    temperature_factor: float = 1.5
    temperature_every: int = 5
    augmentation: Literal["crop-flip", "deit", "resnet", "none"] = "none"
    """See `lwta.training.batches`."""

    def changed(self, **settings: Any) -> Recipe:
        """A copy with other settings.

        Raises:
            ValueError: a setting is unknown or out of range.
        """
        try:
            recipe = replace(self, **settings)
        except TypeError:
            unknown = sorted(set(settings) - set(vars(self)))
            raise ValueError(f"a recipe has no setting {', '.join(unknown)}; it has {', '.join(vars(self))}") from None
        for name in ("epochs", "batch_size"):
            if getattr(recipe, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(recipe, name)}")
        return recipe


RECIPES = {
    "deit": Recipe(
        epochs=300,
        batch_size=1024,
        optimizer="adamw",
        lr=5e-4,
        lr_batch=512,
        weight_decay=0.05,
        min_lr=1e-5,
        warmup_epochs=5,
        label_smoothing=0.1,
        augmentation="deit",
    ),
    "resnet": Recipe(
        epochs=90,
        batch_size=256,
        optimizer="momentum",
        lr=0.1,
        weight_decay=1e-4,
        schedule="step",
        augmentation="resnet",
    ),
    "cifar": Recipe(
        epochs=200,
        batch_size=128,
        optimizer="momentum",
        lr=0.1,
        weight_decay=5e-4,
        warmup_epochs=1,
        augmentation="crop-flip",
    ),
}
"""deit: DeiT (arXiv 2012.12877) as DISCOVER trains it, without Mixup and CutMix. resnet: torchvision's for ImageNet and
Places365. cifar: SGD with a cosine schedule for 32×32 images, held in memory."""


def find_recipe(recipe: str | Recipe, **settings: Any) -> Recipe:
    """A recipe by name, or as it is, with settings changed.

    Raises:
        ValueError: no recipe of this name, or an unknown setting.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
        recipe = RECIPES[recipe]
    return recipe.changed(**settings)
