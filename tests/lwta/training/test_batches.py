"""Order and augmentation of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwta.models import ModelConfig
from lwta.support.processes import Group
from lwta.training import Images, LoadedBatches, TensorBatches, crop_and_flip, make_batches, open_images
from lwta.training.batches import derive, transform_of

CONFIG = ModelConfig("resnet20", 2, 2, 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with six training and two test images of each of two classes, every one of its own colour."""
    for split, count in (("train", 6), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                value = 10 * label + number
                Image.new("RGB", (8, 8), (value, 2 * value, 0)).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def numbered(n: int = 20, **options: object) -> TensorBatches:
    inputs = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(n, 1, 2, 2)
    return TensorBatches(inputs, torch.arange(n), **options)  # type: ignore[arg-type]


def test_an_epoch_is_a_permutation_that_follows_from_seed_and_epoch() -> None:
    batches = numbered(batch_size=6, seed=1, shuffle=True)
    epochs = [torch.cat([targets for _, targets in batches.epoch(epoch)]) for epoch in (0, 1)]
    assert [len(epoch) for epoch in epochs] == [18, 18]
    assert len(set(epochs[0].tolist())) == 18
    assert not torch.equal(*epochs)
    again = torch.cat([targets for _, targets in numbered(batch_size=6, seed=1, shuffle=True).epoch(1)])
    assert torch.equal(epochs[1], again)
    rest = torch.cat([targets for _, targets in batches.epoch(1, first=2)])
    assert torch.equal(epochs[1][12:], rest)
    inputs, targets = next(iter(numbered(batch_size=7)))
    assert torch.equal(inputs[:, 0, 0, 0] * 255, targets.float())
    assert [len(targets) for _, targets in numbered(batch_size=7)] == [7, 7, 6]


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_every_batch(shuffle: bool) -> None:
    alone = [targets for _, targets in numbered(batch_size=6, shuffle=shuffle)]
    shared = [[y for _, y in numbered(batch_size=6, shuffle=shuffle, group=Group(rank, 2))] for rank in range(2)]
    assert len(shared[0]) == len(shared[1]) == len(alone)
    for whole, *parts in zip(alone, *shared, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(parts).tolist())
        assert abs(len(parts[0]) - len(parts[1])) <= 1
    with pytest.raises(ValueError, match="multiple of the 4 processes, got 6"):
        numbered(batch_size=6, group=Group(0, 4))
    with pytest.raises(ValueError, match="at most the number of images, 20, got 21"):
        numbered(batch_size=21, shuffle=True)


def test_crop_and_flip() -> None:
    """Each result is a window of the padded image or its mirror image, and all 81·2 windows come up."""
    image = torch.rand(1, 1, 32, 32) + 1
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))[0, 0]
    out = crop_and_flip(image.expand(3000, 1, 32, 32), torch.Generator().manual_seed(0))
    windows = padded.unfold(0, 32, 1).unfold(1, 32, 1).reshape(81, 32, 32)
    every = torch.cat([windows, windows.flip(-1)])
    distances = torch.cdist(out.flatten(1), every.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    nearest, which = distances.min(1)
    assert (nearest == 0).all()
    assert torch.equal(out[:, 0], every[which])
    assert len(which.unique()) == 162


class Noisy(Images):
    """Images whose transform draws from all generators."""

    classes = ("a", "b")
    labels = tuple(range(2)) * 6

    def image(self, index: int) -> Image.Image:
        return Image.new("L", (2, 2), index)


def noisy(image: Image.Image) -> torch.Tensor:
    import random

    return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])


def test_augmentation_follows_from_seed_epoch_and_place_alone() -> None:
    def run(workers: int, epoch: int, first: int = 0, seed: int = 3) -> torch.Tensor:
        batches = LoadedBatches(Noisy(), noisy, 4, workers=workers, seed=seed, shuffle=True)
        return torch.cat([inputs for inputs, _ in batches.epoch(epoch, first)])

    state = torch.get_rng_state()
    whole = run(0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole, run(2, 1))
    assert torch.equal(whole[8:], run(0, 1, first=2))
    assert not torch.equal(whole, run(0, 2))
    assert not torch.equal(whole, run(0, 1, seed=4))
    assert len(whole.unique()) == whole.numel()
    assert derive(1, 2) != derive(2, 1)


def test_batches_as_a_network_takes_them(source: Path) -> None:
    mean, std = torch.tensor(CONFIG.mean).view(3, 1, 1), torch.tensor(CONFIG.std).view(3, 1, 1)
    images = open_images(source, "test")
    inputs, targets = next(iter(make_batches(images, CONFIG, 4)))
    colours = torch.tensor([[0, 0, 0], [1, 2, 0], [10, 20, 0], [11, 22, 0]]).view(4, 3, 1, 1) / 255
    assert torch.allclose(inputs, ((colours - mean) / std).expand(4, 3, 8, 8), atol=1e-6)
    assert targets.tolist() == [0, 0, 1, 1]
    for augmentation in ("crop-flip", "deit", "resnet"):
        batches = make_batches(open_images(source, "train"), CONFIG, 4, augmentation=augmentation)
        assert [tuple(inputs.shape) for inputs, _ in batches] == [(4, 3, 8, 8)] * 3
    with pytest.raises(ValueError, match="augmentation must be one of crop-flip, none, resnet, deit, got 'mixup'"):
        transform_of(CONFIG, "mixup")
