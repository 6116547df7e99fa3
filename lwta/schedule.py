"""Schedule of the temperature of the straight-through gradient over the course of training."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn

from lwta.checks import check_choice, check_temperature
from lwta.network import set_temperature

Kind = Literal["constant", "exponential", "cosine"]


class TemperatureSchedule:
    """Schedule of the temperature τ of all competitive layers of a network, as a function of the steps taken.

    With t steps taken: ``constant`` is ``start``; ``exponential`` is max(end, start/factor^⌊t/every⌋), the annealing
    that the authors of DISCOVER intended (÷1.5 every 5 epochs down to 0.3); ``cosine`` falls from ``start`` at t = 0 to
    ``end`` at t = ``total`` along half a wave, and stays there. A step is what the caller makes it: an epoch in
    `lwta.training`.

    Args:
        model: a network with competitive layers; gets its first temperature at once.
        start: first temperature.
        kind: "constant", "exponential" or "cosine".
        end: last and lowest temperature; not used by "constant".
        factor: divisor of each step of "exponential", more than 1.
        every: steps between two divisions in "exponential".
        total: steps until ``end``, needed by "cosine".

    Raises:
        ValueError: a setting is out of range, or the network has no competitive layer.

    Example:
        >>> from lwta import LWTA
        >>> layer = LWTA(2)
        >>> schedule = TemperatureSchedule(layer, 1.5, kind="exponential", end=0.3, factor=1.5, every=2)
        >>> [(schedule.step(), layer.temperature)[1] for _ in range(4)]
        [1.5, 1.0, 1.0, 0.6666666666666666]
    """

    def __init__(
        self,
        model: nn.Module,
        start: float = 1.67,
        *,
        kind: Kind = "constant",
        end: float = 0.3,
        factor: float = 1.5,
        every: int = 5,
        total: int | None = None,
    ) -> None:
        check_choice("kind", kind, ("constant", "exponential", "cosine"))
        check_temperature(start)
        check_temperature(end)
        if kind != "constant" and end > start:
            raise ValueError(f"end must be at most start, got end={end}, start={start}")
        if not factor > 1:
            raise ValueError(f"factor must be more than 1, got {factor}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if kind == "cosine" and (total is None or total < 1):
            raise ValueError(f"total must be at least 1 for a cosine schedule, got {total}")
        self._model = model
        self.start, self.kind, self.end, self.factor, self.every, self.total = start, kind, end, factor, every, total
        self.steps = 0
        set_temperature(model, self.temperature)

    @property
    def temperature(self) -> float:
        """Temperature τ after the steps taken so far."""
        return self.temperature_at(self.steps)

    def temperature_at(self, steps: int) -> float:
        """Return the temperature τ after this number of steps."""
        if self.kind == "exponential":
            return max(self.end, self.start / self.factor ** (steps // self.every))
        if self.kind == "cosine" and self.total is not None:
            wave = 0.5 + 0.5 * math.cos(math.pi * min(steps / self.total, 1.0))
            return self.end + (self.start - self.end) * wave
        return self.start

    def step(self) -> None:
        """Take a step and set the temperature that follows."""
        self.steps += 1
        set_temperature(self._model, self.temperature)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the number of steps."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, and set the temperature of the network.

        Raises:
            ValueError: ``state`` is that of a schedule with other settings.
        """
        own = self.state_dict()
        if {**state, "steps": 0} != {**own, "steps": 0}:
            raise ValueError(f"state must be that of a schedule with the same settings: got {state}, expected {own}")
        self.steps = int(state["steps"])
        set_temperature(self._model, self.temperature)
