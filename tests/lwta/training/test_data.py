"""Images in classes, and the order and augmentation of batches."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwta.models import ModelConfig
from lwta.processes import Share
from lwta.training import Images, LoadedBatches, TensorBatches, crop_and_flip, make_batches, open_images
from lwta.training.loaders import derive, transform_of

CONFIG = ModelConfig("resnet20", 2, 2, 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def png(value: int, size: int = 8) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (size, size), (value, 2 * value, 0)).save(data, "PNG")
    return data.getvalue()


FILES = {
    f"{split}/{name}/{number}.png": png(10 * label + number)
    for split, count in (("train", 6), ("val", 2))
    for label, name in enumerate(("cat", "dog"))
    for number in range(count)
}


@pytest.fixture(params=["folder", "zip", "tar"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return tmp_path
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
        return tmp_path / "images.zip"
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}-000.tar", "w") as tar:
            for name, data in FILES.items():
                if name.startswith(split):
                    key = name.removeprefix(f"{split}/").removesuffix(".png")
                    for suffix, content in (("png", data), ("cls", str(int("dog" in name)).encode())):
                        member = tarfile.TarInfo(f"{key}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    return tmp_path


def test_every_kind_of_source(source: Path) -> None:
    training, test = open_images(source, "train"), open_images(source, "test")
    assert (len(training), len(test)) == (12, 4)
    assert list(training.labels) == [0] * 6 + [1] * 6
    assert list(training.classes) in (["cat", "dog"], ["0", "1"])
    assert training.image(8).getpixel((0, 0)) == (12, 24, 0)
    assert test.image(3).getpixel((0, 0)) == (11, 22, 0)


def test_the_shared_archive(shared_data: Path) -> None:
    images = open_images(shared_data / "cifar10-part.zip", "test")
    assert (len(images), images.classes[3], images.image(4999).size) == (5000, "cat", (32, 32))


def _write_cifar(root: Path, coarse: bool) -> None:
    """Ten images a file, of labels 0, 1, 2, …, the first pixel's red ten times the label."""
    folder = root / ("cifar-10-batches-py" if coarse else "cifar-100-python")
    folder.mkdir()
    pixels = np.zeros((10, 3, 32, 32), np.uint8)
    pixels[:, 0] = 10 * np.arange(10)[:, None, None]
    entry = {"data": pixels.reshape(10, -1), "labels" if coarse else "fine_labels": list(range(10))}
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"] if coarse else ["train", "test"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps(entry))
    meta = {"label_names" if coarse else "fine_label_names": [f"class {label}" for label in range(10)]}
    (folder / ("batches.meta" if coarse else "meta")).write_bytes(pickle.dumps(meta))


@pytest.mark.parametrize(("name", "files"), [("cifar10", 5), ("cifar100", 1)])
def test_cifar_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: int) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # these are not the real ones
    _write_cifar(tmp_path, name == "cifar10")
    training, test = (open_images(f"{name}:{tmp_path}", split) for split in ("train", "test"))
    assert (len(training), len(test)) == (10 * files, 10)
    assert list(test.labels) == list(range(10))
    assert (test.classes[7], test.image(7).getpixel((0, 0))) == ("class 7", (70, 0, 0))


def test_places365_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.places365.check_integrity", lambda *_, **__: True)
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 0\n/z/zen_garden 1\n")
    for split, folder in (("train_standard", "data_256_standard"), ("val", "val_256")):
        (tmp_path / f"places365_{split}.txt").write_text("/a/airfield/1.jpg 0\n/z/zen_garden/1.jpg 1\n")
        for place, name in enumerate(("a/airfield", "z/zen_garden")):
            (tmp_path / folder / name).mkdir(parents=True)
            (tmp_path / folder / name / "1.jpg").write_bytes(png(10 * place + (split == "val")))
    training, test = (open_images(f"places365:{tmp_path}", split) for split in ("train", "test"))
    assert list(training.classes) == ["/a/airfield", "/z/zen_garden"]
    assert [list(images.labels) for images in (training, test)] == [[0, 1], [0, 1]]
    assert [images.image(1).getpixel((0, 0)) for images in (training, test)] == [(10, 20, 0), (11, 22, 0)]


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(FileNotFoundError, match="there is no"):
        open_images(tmp_path / "absent", "train")
    for name, call in (("cifar10", "CIFAR10"), ("cifar100", "CIFAR100"), ("places365", "Places365")):
        with pytest.raises(
            FileNotFoundError, match=rf"there is no {name} of torchvision.*datasets\.{call}\('.*download"
        ):
            open_images(f"{name}:{tmp_path}", "train")
    with pytest.raises(ValueError, match=r"notes\.txt is none of them"):
        open_images(tmp_path / "notes.txt", "train")
    with pytest.raises(ValueError, match="must hold images as <split>/<class>/<image>"):
        open_images(tmp_path, "train")
    with pytest.raises(ValueError, match="split must be one of train, test, got 'all'"):
        open_images(tmp_path, "all")
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "broken.png").write_bytes(b"no image")
    for data, reason in ((b"no image", "it is of no known kind"), (b"", "it is empty")):
        (tmp_path / "train" / "a" / "broken.png").write_bytes(data)
        with pytest.raises(ValueError, match=rf"train/a/broken\.png cannot be read: {reason}$"):
            open_images(tmp_path, "train").image(0)


def test_the_fingerprint_of_images_follows_names_sizes_and_labels(source: Path) -> None:
    training = open_images(source, "train").fingerprint()
    assert open_images(source, "train").fingerprint() == training
    assert open_images(source, "test").fingerprint() != training
    if source.is_dir() and (folder := source / "train").is_dir():
        (folder / "cat" / "0.png").write_bytes(png(0, size=64))
        resized = open_images(source, "train").fingerprint()
        assert resized != training
        for name, other in (("cat", "aside"), ("dog", "cat"), ("aside", "dog")):
            (folder / name).rename(folder / other)
        assert open_images(source, "train").fingerprint() not in (training, resized)


def test_the_fingerprint_of_batches_is_that_of_their_images(source: Path) -> None:
    training, test = open_images(source, "train"), open_images(source, "test")
    loaded = [make_batches(images, CONFIG, 4, augmentation="resnet").fingerprint() for images in (training, test)]
    assert loaded == [training.fingerprint(), test.fingerprint()]
    held = [make_batches(images, CONFIG, 4, augmentation="crop-flip").fingerprint() for images in (training, test)]
    assert held[0] != held[1]
    assert held[0] == make_batches(open_images(source, "train"), CONFIG, 8, augmentation="crop-flip").fingerprint()


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
    shared = [[y for _, y in numbered(batch_size=6, shuffle=shuffle, share=Share(rank, 2))] for rank in range(2)]
    assert len(shared[0]) == len(shared[1]) == len(alone)
    for whole, *parts in zip(alone, *shared, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(parts).tolist())
        assert abs(len(parts[0]) - len(parts[1])) <= 1
    with pytest.raises(ValueError, match="multiple of the 4 processes, got 6"):
        numbered(batch_size=6, share=Share(0, 4))
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
