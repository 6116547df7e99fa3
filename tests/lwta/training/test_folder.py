"""The folder of a run: whose it is, what it refuses, and what it makes of damaged files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lwta import LWTA, create_model, set_eval_mode
from lwta.support.digests import CHECKSUM, digest_of_content
from lwta.support.processes import Group
from lwta.training import Recipe, TensorBatches, folder, train
from lwta.training.folder import own_folder
from lwta.training.state import load_state

RECIPE = Recipe(epochs=1, batch_size=8, optimizer="momentum", lr=0.01)


def data(*, places: slice = slice(None)) -> TensorBatches:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return TensorBatches(inputs, (torch.arange(32) % 3)[places], 8, shuffle=True)


def residual(out: Path, training: TensorBatches | None = None, **settings: Any) -> None:
    model = create_model(**{"name": "resnet20", "competitors": 2, "num_classes": 3, "input_size": 16, **settings})
    train(model, (training or data(), None), recipe=RECIPE, device="cpu", out=out, progress=False)


def small(out: Path, *layers: nn.Module, training: TensorBatches | None = None, epochs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 12), *(layers or (LWTA(2),)), nn.Linear(12, 3))
    batches = training or data()
    return train(model, (batches, None), recipe=RECIPE, epochs=epochs, device="cpu", out=out, progress=False).model


def as_version_0_1_0(out: Path) -> None:
    """Take away what version 0.1.0 did not write."""
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    del state[CHECKSUM]
    for name in ("network", "seed of the data", "digest of the data"):
        del state["settings"][name]
    torch.save(state, out / "checkpoint.pt")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    residual(out)
    return out


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"competitors": 4}, "competitors 2, now 4"),
        ({"placement": "branches"}, "placement 'everywhere', now 'branches'"),
        ({"input_size": 24}, "input_size 16, now 24"),
        ({"norm_scale": 4.0}, "norm_scale 1.0, now 4.0"),
        ({"name": "vit_cifar"}, "name 'resnet20', now 'vit_cifar'"),
        ({"class_names": ("a", "b", "c")}, "class_names None, now ('a', 'b', 'c')"),
    ],
)
@pytest.mark.slow
def test_the_run_of_another_network_is_refused_and_nothing_is_written(
    finished: Path, settings: dict[str, Any], difference: str
) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match="run with other settings") as refused:
        residual(finished, **settings)
    assert f"({difference})" in str(refused.value)
    assert contents(finished) == before


@pytest.mark.slow
def test_what_a_run_changes_itself_is_no_other_setting(finished: Path) -> None:
    residual(finished, temperature=0.5, eval_mode="argmax")
    assert json.loads((finished / "model/config.json").read_text())["eval_mode"] == "argmax"
    residual(finished)


@pytest.mark.slow
def test_a_finished_run_of_version_0_1_0_is_known_by_its_saved_network(tmp_path: Path) -> None:
    residual(tmp_path)
    as_version_0_1_0(tmp_path)
    residual(tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(competitors 2, now 4\)"):
        residual(tmp_path, competitors=4)


def test_a_network_of_ones_own_is_known_by_its_modules(tmp_path: Path) -> None:
    small(tmp_path)
    with pytest.raises(ValueError, match=r"\(module 2 'LWTA\(competitors=2\)', now 'LWTA\(competitors=4\)'\)"):
        small(tmp_path, LWTA(4))
    with pytest.raises(ValueError, match=r"\(module 2 .*; module 3 .*; module 4 None, now 'Linear\(.*\)'\)"):
        small(tmp_path, nn.ReLU(), LWTA(2))
    layer = LWTA(2, temperature=0.3)
    set_eval_mode(layer, "argmax")
    small(tmp_path, layer)


def test_a_run_of_version_0_1_0_goes_on(tmp_path: Path) -> None:
    whole = small(tmp_path / "whole", epochs=1)
    small(tmp_path / "old")
    as_version_0_1_0(tmp_path / "old")
    assert torch.equal(small(tmp_path / "old")[1].weight, whole[1].weight)
    state = torch.load(tmp_path / "old" / "checkpoint.pt", weights_only=True)
    state["model"]["1.weight"] = torch.zeros(13, 768)
    torch.save(state, tmp_path / "old" / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"another network \(of another shape: 1\.weight \(13, 768\) instead of"):
        small(tmp_path / "old")


def test_other_data_of_the_same_number_is_refused(tmp_path: Path) -> None:
    small(tmp_path)
    images, labels = data()._inputs, data()._targets
    exchanged = {
        "labels": TensorBatches(images, 2 - labels, 8, shuffle=True),
        "images": TensorBatches(images.flip(0), labels, 8, shuffle=True),
        "normalisation": TensorBatches(images, labels, 8, mean=(0.5,), shuffle=True),
    }
    for training in exchanged.values():
        with pytest.raises(ValueError, match=r"other settings \(digest of the data '.*', now '.*'\)"):
            small(tmp_path, training=training)
    with pytest.raises(ValueError, match=r"other settings \(seed of the data 0, now 1\)"):
        small(tmp_path, training=TensorBatches(images, labels, 8, seed=1, shuffle=True))


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    small(tmp_path)
    path = tmp_path / "checkpoint.pt"
    written, chance = path.read_bytes(), random.Random(0)
    expected, refusals = digest_of_content(load_state(path, {})), 0
    for _ in range(120):
        damaged = bytearray(written)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert digest_of_content(load_state(path, {})) == expected
        except ValueError as error:
            refusals += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)  # noqa: PT017, PT018
    assert refusals > 60
    weight = torch.load(path, weights_only=True)["model"]["1.weight"].numpy().tobytes()
    damaged = bytearray(written)
    damaged[written.index(weight) + 1000] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged: its content is not what was written; put a copy"):
        small(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo this must not run",)


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "hostile", "weights", "no checksum"])
def test_what_is_no_checkpoint_is_refused_in_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    small(tmp_path)
    path = tmp_path / "checkpoint.pt"
    written = path.read_bytes()
    state = torch.load(path, weights_only=True)
    replace = {
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(written[:-100]),
        "text": lambda: path.write_text("no checkpoint"),
        "hostile": lambda: torch.save({"model": Hostile()}, path),
        "weights": lambda: torch.save(state["model"], path),
        "no checksum": lambda: torch.save({name: state[name] for name in state if name != CHECKSUM}, path),
    }
    replace[kind]()
    with pytest.raises(ValueError, match="or remove it to begin anew") as refused:
        small(tmp_path)
    assert str(refused.value).startswith(f"{path} is ")
    assert "\n" not in str(refused.value)
    assert "weights_only" not in str(refused.value)


def test_files_that_killed_trainings_left_are_removed(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "model").mkdir()
    unfinished = f".checkpoint.pt.{'0123456789abcdef' * 2}.tmp"
    for left in (tmp_path / unfinished, tmp_path / "model" / unfinished, tmp_path / ".mine.tmp"):
        left.write_bytes(b"unfinished")
    small(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.tmp")] == [".mine.tmp"]


def test_a_folder_belongs_to_one_training_at_a_time(tmp_path: Path) -> None:
    with own_folder(tmp_path, Group()):
        with pytest.raises(ValueError, match=f"another training runs in {tmp_path}; wait for its end, or choose"):
            small(tmp_path)
        small(tmp_path / "other")
        child = os.fork()
        if not child:  # as a process that reads images, it must not keep the folder after its parent's end
            time.sleep(30)
            os._exit(0)
    try:
        small(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.csv", "other", "result.json"]


def test_a_process_that_has_just_been_forked_does_not_keep_the_folder(tmp_path: Path) -> None:
    """It has the lock's descriptor too, until it runs."""
    with own_folder(tmp_path, Group()):
        (copy,) = [os.dup(descriptor) for descriptor in folder._held]
    with own_folder(tmp_path, Group()):
        os.close(copy)


@pytest.mark.slow
def test_the_folder_is_free_again_after_the_end_of_the_process_that_held_it(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from lwta.training import Group; from lwta.training.folder import own_folder\n"
        f"with own_folder(pathlib.Path({str(tmp_path)!r}), Group()): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another training runs in"):
        small(tmp_path)
    process.kill()
    process.communicate()
    small(tmp_path)
