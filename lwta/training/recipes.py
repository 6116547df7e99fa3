"""Recipes: settings of training, with the numbers of the papers under a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from lwta.schedule import Kind


@dataclass(frozen=True)
class Recipe:
    """Settings of a training: optimiser, schedules, regularisation and augmentation.

    Example:
        >>> recipe = Recipe(epochs=10, batch_size=128, optimizer="momentum", lr=0.1)
        >>> recipe.changed(lr=0.05, temperature_schedule="cosine").lr
        0.05
    """

    epochs: int
    """Number of epochs."""
    batch_size: int
    """Images in a step of all processes together."""
    optimizer: str
    """Name of the optimiser in timm, such as "adamw" or "momentum" (SGD); "sgd" is Nesterov's."""
    lr: float
    """Largest learning rate."""
    lr_batch: int | None = None
    """Batch size for which ``lr`` is meant: the rate used is lr·batch_size/lr_batch. None uses ``lr`` as it is."""
    momentum: float = 0.9
    """Momentum of optimisers that have one."""
    weight_decay: float = 0.0
    """Weight decay, which biases and norms do not get."""
    schedule: str = "cosine"
    """Name of the learning-rate schedule in timm, such as "cosine" or "step"; it follows steps, not epochs."""
    min_lr: float = 0.0
    """Smallest learning rate, at the end of the schedule."""
    warmup_epochs: int = 0
    """Epochs in which the learning rate rises from ``warmup_lr``."""
    warmup_lr: float = 1e-6
    """Learning rate at the beginning of the warm-up."""
    decay_epochs: int = 30
    """Epochs between two divisions of the learning rate by the schedule "step"."""
    decay_rate: float = 0.1
    """Factor on the learning rate at each of these divisions."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    kl_weight: float = 0.0
    """Weight λ of the KL terms, as in `lwta.ELBOLoss`."""
    clip_grad: float | None = None
    """Largest norm of the gradient; None does not clip it."""
    ema: float | None = None
    """Decay of a moving average of the weights, which is then evaluated and saved; None for no average."""
    temperature: float = 1.67
    """First temperature τ, as in `lwta.TemperatureSchedule`."""
    temperature_schedule: Kind = "constant"
    """Kind of `lwta.TemperatureSchedule`, which takes a step after each epoch."""
    temperature_end: float = 0.3
    """Last and lowest temperature."""
    temperature_factor: float = 1.5
    """Divisor of the temperature at each step of the exponential schedule."""
    temperature_every: int = 5
    """Epochs between two divisions of the temperature by the exponential schedule."""
    augmentation: Literal["crop-flip", "deit", "resnet", "none"] = "none"
    """Augmentation of the training images; see `lwta.training.make_batches`."""

    def changed(self, **settings: Any) -> Recipe:
        """Return a copy with some settings changed.

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
"""Recipes by name: "deit", "resnet" and "cifar".

- deit: DeiT (arXiv 2012.12877) as DISCOVER trains it, without Mixup and CutMix.
- resnet: torchvision's recipe for ImageNet and Places365.
- cifar: SGD with a cosine schedule for 32×32 images, held in memory.
"""


def find_recipe(recipe: str | Recipe, **settings: Any) -> Recipe:
    """Return a recipe, given by its name or itself, with some settings changed.

    Raises:
        ValueError: there is no recipe of this name, or a setting is unknown or out of range.

    Example:
        >>> find_recipe("deit", epochs=30).epochs
        30
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
        recipe = RECIPES[recipe]
    return recipe.changed(**settings)
