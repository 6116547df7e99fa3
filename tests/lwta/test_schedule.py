"""The temperature over the course of training."""

import math

import pytest
from torch import nn

from lwta import LWTA, TemperatureSchedule


def run(schedule: TemperatureSchedule, layer: LWTA, steps: int) -> list[float]:
    temperatures = [layer.temperature]
    for _ in range(steps):
        schedule.step()
        temperatures.append(layer.temperature)
    return temperatures


def test_constant() -> None:
    layer = LWTA(2)
    assert run(TemperatureSchedule(layer, 0.8), layer, 3) == [0.8] * 4


def test_exponential_divides_every_so_many_steps_down_to_the_end() -> None:
    """What the authors intended: ÷1.5 every 5 epochs, at least 0.3."""
    layer = LWTA(2)
    seen = run(TemperatureSchedule(layer, 1.67, kind="exponential"), layer, 29)
    expected = [max(0.3, 1.67 / 1.5**period) for period in range(6) for _ in range(5)]
    assert seen == pytest.approx(expected)
    assert seen[-1] == 0.3


def test_cosine() -> None:
    layer = LWTA(2)
    seen = run(TemperatureSchedule(layer, 2.0, kind="cosine", end=0.5, total=4), layer, 6)
    expected = [1.25 + 0.75 * math.cos(math.pi * t / 4) for t in range(5)]
    assert seen == pytest.approx([*expected, 0.5, 0.5])


def test_it_goes_on_from_its_state() -> None:
    layer, other = LWTA(2), LWTA(2)
    first = TemperatureSchedule(layer, 1.5, kind="exponential", every=2)
    for _ in range(5):
        first.step()
    second = TemperatureSchedule(other, 1.5, kind="exponential", every=2)
    second.load_state_dict(first.state_dict())
    assert other.temperature == layer.temperature
    assert run(first, layer, 4) == run(second, other, 4)
    with pytest.raises(ValueError, match="same settings"):
        TemperatureSchedule(other, 1.4).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"kind": "linear"}, "kind must be one of"),
        ({"kind": "cosine"}, "total must be at least 1"),
        ({"kind": "exponential", "factor": 1.0}, "factor must be more than 1"),
        ({"kind": "exponential", "every": 0}, "every must be at least 1"),
        ({"kind": "exponential", "end": 3.0}, r"end must be at most start, got end=3\.0"),
        ({"end": -1.0}, "temperature must be positive"),
    ],
)
def test_errors(keywords: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TemperatureSchedule(LWTA(2), 1.67, **keywords)


def test_a_network_without_competition_has_no_temperature() -> None:
    with pytest.raises(ValueError, match="has none"):
        TemperatureSchedule(nn.Linear(2, 2))
