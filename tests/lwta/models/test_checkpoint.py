"""Weights from files of many layouts, and networks that are saved and come back."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from lwta import create_model, load_checkpoint
from tests.support.networks import network, same_weights


@pytest.mark.parametrize("container", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_layouts(tmp_path: Path, container: str | None, prefix: str) -> None:
    source, target = network(), network()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    state[f"{prefix}1.temp"] = torch.tensor(0.67)
    content = {container: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if container else state
    torch.save(content, tmp_path / "checkpoint.pth")
    assert not same_weights(source, target)
    assert load_checkpoint(target, tmp_path / "checkpoint.pth") is target
    assert same_weights(source, target)
    assert target[1].temperature == 1.67


def test_compiled_and_data_parallel_networks_are_loaded_inside(tmp_path: Path) -> None:
    source, target = network(), network()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    load_checkpoint(nn.DataParallel(torch.compile(target)), tmp_path / "weights.pt")
    assert same_weights(source, target)


@pytest.mark.slow
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
        assert same_weights(source, target)


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
