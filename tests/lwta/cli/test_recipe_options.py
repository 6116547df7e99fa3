"""Every setting of a recipe is an option of `lwta train`, with the type and the choices of the setting."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, Literal, Optional

import pytest

from lwta.cli import train
from lwta.training import RECIPES, Recipe

EXPECTED: dict[str, tuple[Any, tuple[str, ...] | None]] = {
    "epochs": (int, None),
    "batch_size": (int, None),
    "optimizer": (str, None),
    "lr": (float, None),
    "lr_batch": (int, None),
    "momentum": (float, None),
    "weight_decay": (float, None),
    "schedule": (str, None),
    "min_lr": (float, None),
    "warmup_epochs": (int, None),
    "warmup_lr": (float, None),
    "decay_epochs": (int, None),
    "decay_rate": (float, None),
    "label_smoothing": (float, None),
    "kl_weight": (float, None),
    "clip_grad": (float, None),
    "ema": (float, None),
    "temperature": (float, None),
    "temperature_schedule": (str, ("constant", "exponential", "cosine")),
    "temperature_end": (float, None),
    "temperature_factor": (float, None),
    "temperature_every": (int, None),
    "augmentation": (str, ("crop-flip", "deit", "resnet", "none")),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(exit_on_error=False)
    train.add_arguments(made)
    return made


def test_every_setting_has_an_option_of_its_type() -> None:
    actions = {action.dest: action for action in parser()._actions}
    found = {field.name: actions[field.name] for field in fields(Recipe)}
    assert {name: (action.type, action.choices) for name, action in found.items()} == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_values_of_the_recipes_can_be_given_as_options(name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    for recipe in RECIPES.values():
        value = getattr(recipe, name)
        if value is not None:
            given = getattr(parser().parse_args(["photos", "--out", "run", option, str(value)]), name)
            assert given == value
            assert type(given) is type(value)


def test_a_choice_that_there_is_not_is_refused() -> None:
    with pytest.raises(argparse.ArgumentError, match=r"--augmentation: invalid choice: 'mixup'"):
        parser().parse_args(["photos", "--out", "run", "--augmentation", "mixup"])


def test_settings_that_are_not_given_stay_those_of_the_recipe() -> None:
    assert not {field.name for field in fields(Recipe)} & vars(parser().parse_args(["photos", "--out", "run"])).keys()


@pytest.mark.parametrize("annotation", [int | None, Optional[int]])  # noqa: UP045
def test_a_setting_that_may_be_none_has_the_type_of_its_values(annotation: Any) -> None:
    assert train.option_type(annotation) == (int, None)


def test_a_literal_that_may_be_none_keeps_its_choices() -> None:
    assert train.option_type(Literal["a", "b"] | None) == (str, ("a", "b"))


@pytest.mark.parametrize("annotation", [bool, list[int], int | str, Literal[1, 2], tuple[float, float]])
def test_a_setting_of_another_type_is_an_error_and_no_text(annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"annotation must be int, float, str, a Literal of strings"):
        train.option_type(annotation)
