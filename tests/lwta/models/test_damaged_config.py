"""A saved network whose config.json was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lwta import create_model, load_model, save_model


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("placement", "everywherg", "placement must be one of 'everywhere', 'branches'"),
        ("name", "resnet21", "name must be one of"),
        ("competitors", 3, "competitors|divide"),
        ("num_classes", "ten", ""),
        ("crop_qct", 1.0, "unknown: ..crop_qct"),
    ],
)
def test_a_setting_that_is_none_is_refused_and_the_file_is_named(
    tmp_path: Path, setting: str, value: Any, message: str
) -> None:
    save_model(create_model("resnet20", num_classes=3), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(ValueError, match=rf"config\.json.*({message})"):
        load_model(tmp_path)
