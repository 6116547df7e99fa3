"""Networks that are saved and come back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from lwta import create_model, load_checkpoint, load_model, save_model, set_eval_mode, set_temperature
from tests.support.networks import network, same_weights


def test_every_flipped_bit_of_saved_weights_is_noticed(tmp_path: Path) -> None:
    model = create_model("resnet20", 2, 3)
    path = save_model(model, tmp_path) / "model.safetensors"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    written, chance = path.read_bytes(), random.Random(0)
    places = [chance.randrange(len(written)) for _ in range(30)] + [chance.randrange(4000) for _ in range(30)]
    for place in places:  # the header is as long as 4,000 bytes, and most of the rest are weights
        data = bytearray(written)
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.safetensors (is damaged|is no safetensors file|does not fit)"):
            load_checkpoint(model, path)
    data = bytearray(written)
    data[-1000] ^= 64
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: its content is not what was written"):
        load_model(tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    path.write_bytes(written)
    load_model(tmp_path)


def test_weights_without_a_checksum_are_loaded(tmp_path: Path) -> None:
    """As version 0.1.0 and other programs write them."""
    from safetensors.torch import load_file, save_file

    model = create_model("resnet20", 2, 3)
    path = save_model(model, tmp_path) / "model.safetensors"
    save_file(load_file(path), path)
    assert same_weights(load_model(tmp_path), model)


def test_a_save_that_was_stopped_between_its_two_files_leaves_what_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(create_model("resnet20", 2, 3), tmp_path)
    later = create_model("resnet20", 2, 3)

    def stopped(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lwta.models.saving.json.dumps", stopped)
        with pytest.raises(KeyboardInterrupt):
            save_model(later, tmp_path)
    assert same_weights(load_model(tmp_path), later)


@pytest.mark.parametrize("name", ["vit_cifar", "resnet20"])
def test_a_saved_network_comes_back(tmp_path: Path, name: str) -> None:
    model = create_model(name, 4, class_names=("a", "b", "c"))
    set_temperature(model, 0.4)
    set_eval_mode(model, "argmax")
    x = torch.randn(4, 3, 32, 32)
    model(x)  # moves the statistics of batch norms
    loaded = load_model(save_model(model, tmp_path / "folder"))
    assert not loaded.training
    assert loaded.lwta_config.class_names == ("a", "b", "c")
    assert (loaded.lwta_config.temperature, loaded.lwta_config.eval_mode) == (0.4, "argmax")
    with torch.inference_mode():
        assert torch.equal(model.eval()(x), loaded(x))
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["config.json", "model.safetensors"]


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model must come from lwta\.create_model .* got Sequential"):
        save_model(network(), tmp_path)
    model = create_model("resnet20", 2)
    model.relu.temperature = 0.1
    with pytest.raises(ValueError, match=r"must agree in temperature, got \[0\.1, 1\.67\]"):
        save_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    save_model(create_model("resnet20", 2), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "num_classes": 3}))
    with pytest.raises(ValueError, match=r"fc\.weight \(10, 64\) instead of \(3, 64\)"):
        load_model(tmp_path)
    for damaged, problem in ((b'{"name": "\xff"}', "is not JSON"), (b"[2]", "must hold the settings of ModelConfig")):
        (tmp_path / "config.json").write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"config\.json {problem}"):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"name": "resnet20", "units": 3}))
    with pytest.raises(ValueError, match=r"missing: \['competitors', .* unknown: \['units'\]"):
        load_model(tmp_path)
