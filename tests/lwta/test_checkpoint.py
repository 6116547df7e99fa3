"""Weights from files of many layouts, and networks that are saved and come back."""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from lwta import LWTA, create_model, load_checkpoint, load_model, save_model, set_eval_mode, set_temperature


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), LWTA(2), nn.BatchNorm1d(6), nn.Linear(6, 3))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("container", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_layouts(tmp_path: Path, container: str | None, prefix: str) -> None:
    source, target = network(), network()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    state[f"{prefix}1.temp"] = torch.tensor(0.67)
    content = {container: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if container else state
    torch.save(content, tmp_path / "checkpoint.pth")
    assert not same(source, target)
    assert load_checkpoint(target, tmp_path / "checkpoint.pth") is target
    assert same(source, target)
    assert target[1].temperature == 1.67


def test_compiled_and_data_parallel_networks_are_loaded_inside(tmp_path: Path) -> None:
    source, target = network(), network()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    load_checkpoint(nn.DataParallel(torch.compile(target)), tmp_path / "weights.pt")
    assert same(source, target)


def test_weights_of_timm_and_torchvision(tmp_path: Path) -> None:
    import timm
    import torchvision

    pairs = [
        (timm.create_model("deit_tiny_patch16_224"), create_model("deit_tiny", 24, fused=True)),
        (torchvision.models.resnet18(), create_model("resnet18", 8)),
        (timm.create_model("resnet18"), create_model("resnet18", 8)),
    ]
    for source, target in pairs:
        torch.save(source.state_dict(), tmp_path / "weights.pth")
        load_checkpoint(target, tmp_path / "weights.pth")
        assert same(source, target)


def test_a_mismatch_names_the_keys_and_changes_nothing(tmp_path: Path) -> None:
    state = network().state_dict()
    state["3.weight"] = torch.zeros(5, 6)
    state["4.weight"] = state.pop("3.bias")
    torch.save(state, tmp_path / "weights.pt")
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    problem = r"missing: 3\.bias; unexpected: 4\.weight; of another shape: 3\.weight \(5, 6\) instead of \(3, 6\)"
    with pytest.raises(ValueError, match=problem):
        load_checkpoint(target, tmp_path / "weights.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
    load_checkpoint(target, tmp_path / "weights.pt", ignore=("3.*", "4.*"))
    assert torch.equal(target[0].weight, state["0.weight"])
    assert torch.equal(target[3].weight, before["3.weight"])


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"weights": Path}, tmp_path / "code.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("text.pt", "code.pt", "text.safetensors"):
        with pytest.raises(ValueError, match=f"{name} is no "):
            load_checkpoint(network(), tmp_path / name)
    with pytest.raises(ValueError, match=r"must be a state dict or hold one as 'model', .* found: epoch"):
        load_checkpoint(network(), tmp_path / "empty.pt")
    for name in ("absent.pt", "absent.safetensors"):
        with pytest.raises(FileNotFoundError):
            load_checkpoint(network(), tmp_path / name)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo this must not run",)


def test_the_refusal_of_a_hostile_file_is_one_line_without_the_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "cut.pt").write_bytes((tmp_path / "hostile.pt").read_bytes()[:-40])
    reasons = {
        "hostile": "it also holds posix.system",
        "empty": "it is empty",
        "cut": "it is damaged, cut off, or of another kind",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError) as refused:  # noqa: PT011 (compared as a whole)
            load_checkpoint(network(), tmp_path / f"{name}.pt")
        assert str(refused.value) == f"{tmp_path / name}.pt is no file of weights alone: {reason}"


def test_batch_norms_of_old_checkpoints_keep_the_networks_number_of_batches(tmp_path: Path) -> None:
    state = network().state_dict()
    assert state.pop("2.num_batches_tracked") == 0
    torch.save(state, tmp_path / "old.pt")
    target = network()
    target[2].num_batches_tracked += 7
    load_checkpoint(target, tmp_path / "old.pt")
    assert target[2].num_batches_tracked == 7
    assert torch.equal(target[0].weight, state["0.weight"])
    del state["2.running_mean"]
    torch.save(state, tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"; missing: 2\.running_mean; see ignore"):
        load_checkpoint(target, tmp_path / "old.pt")


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
    assert same(load_model(tmp_path), model)


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
    assert same(load_model(tmp_path), later)


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
