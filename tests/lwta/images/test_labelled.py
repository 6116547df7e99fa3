"""Labelled images of a split, and their classes, through the door for training and that for probing."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lwta.images import Images, IndexedProbe, MissingSplitError, Probe, open_images


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
    with pytest.raises(ValueError, match=r"notes\.txt must be a folder or a zip or tar archive .*, it is neither"):
        open_images(tmp_path / "notes.txt", "train")
    with pytest.raises(MissingSplitError, match="must hold images as <split>/<class>/<image>, with train or training"):
        open_images(tmp_path, "train")
    with pytest.raises(ValueError, match="split must be one of train, test, got 'all'"):
        open_images(tmp_path, "all")
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError,
        match=r"train/a/broken\.png of .* cannot be read: UnidentifiedImageError: cannot identify image file$",
    ):
        open_images(tmp_path, "train").image(0)


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """The files in a folder, or in an archive if its name says so."""
    root.parent.mkdir(parents=True, exist_ok=True)
    if root.suffix == ".zip":
        with zipfile.ZipFile(root, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif root.suffix == ".tar":
        with tarfile.open(root, "w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def probed(source: Path) -> dict[str, str | None]:
    """Class of each image that a probe finds."""
    probe = Probe.of(source)
    assert isinstance(probe, IndexedProbe)
    return {sample.key: sample.label for sample in map(probe.__getitem__, range(len(probe)))}


def trained(source: Path) -> dict[str, str | None]:
    """Class of each image of both splits."""
    found = {}
    for images in (open_images(source, "train"), open_images(source, "test")):
        found |= {key: images.classes[label] for key, label in zip(images.keys, images.labels, strict=True)}
    return found


NESTED = {
    "train/cat/siamese/1.png": png(1),
    "train/cat/2.png": png(2),
    "train/dog/3.gif": png(3),
    "train/dog/4.PNG": png(4),
    "validation/dog/5.png": png(5),
    "validation/cat/6.png": png(6),
}
CLASSES = {name: name.split("/")[1] for name in NESTED}


@pytest.mark.parametrize("wrapping", ["", "photos/", "./photos/2024/"])
@pytest.mark.parametrize("kind", ["folder", "images.zip", "images.tar"])
def test_training_and_probing_find_the_same_images_and_classes(tmp_path: Path, kind: str, wrapping: str) -> None:
    source = write(tmp_path / kind, {wrapping + name: data for name, data in NESTED.items()})
    start = wrapping.removeprefix("./") if kind == "folder" else wrapping
    expected = {start + name: label for name, label in CLASSES.items()}
    assert probed(source) == trained(source) == expected
    if kind == "folder":
        below = probed(source / wrapping / "train")
        assert below == {name.removeprefix("train/"): x for name, x in CLASSES.items() if name.startswith("train")}


def test_what_lies_beside_the_splits_is_no_class(tmp_path: Path) -> None:
    beside = {"photos/cover.png": png(0), "__MACOSX/photos/train/cat/._2.png": b"a resource fork"}
    source = write(tmp_path / "a.zip", {f"photos/{name}": data for name, data in NESTED.items()} | beside)
    expected = {f"photos/{name}": label for name, label in CLASSES.items()}
    assert probed(source) == {**expected, **dict.fromkeys(beside)}
    assert trained(source) == expected
    source = write(tmp_path / "b", {**NESTED, "docs/figure.png": png(0)})
    assert trained(source) == CLASSES


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert probed(write(tmp_path / "a", {"train/1.png": png(1), "truck/2.png": png(2)})) == {
        "train/1.png": "train",
        "truck/2.png": "truck",
    }


@pytest.mark.parametrize("kind", ["folder", "images.zip"])
def test_a_class_of_one_split_alone_shifts_no_label(tmp_path: Path, kind: str) -> None:
    files = {
        name: png(0) for name in ("train/b/1.png", "train/c/2.png", "train/d/3.png", "test/d/4.png", "test/b/5.png")
    }
    source = write(tmp_path / kind, files)
    training, test = open_images(source, "train"), open_images(source, "test")
    assert list(training.classes) == list(test.classes) == ["b", "c", "d"]
    assert (list(training.labels), list(test.labels)) == ([0, 1, 2], [0, 2])
    source = write(tmp_path / f"more-{kind}", {**files, "test/a/6.png": png(0)})
    test = open_images(source, "test")
    assert test.classes == ["b", "c", "d", "a"]
    assert list(test.labels) == [3, 0, 2]
    assert open_images(source, "train").classes == ["b", "c", "d"]


def test_splits_may_be_links_to_folders(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", {"cat/1.png": png(1), "dog/2.png": png(2)})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(elsewhere)
    assert open_images(tmp_path / "data", "train").keys == ["train/cat/1.png", "train/dog/2.png"]


def samples(labels: Mapping[str, str], suffix: str = "cls") -> dict[str, bytes]:
    """Images of WebDataset and the files with their labels."""
    files = {f"{key}.png": png(number) for number, key in enumerate(labels)}
    return files | {f"{key}.{suffix}": label.encode() for key, label in labels.items()}


def test_cls_files_that_hold_numbers_are_labels(tmp_path: Path) -> None:
    write(tmp_path / "train-0.tar", samples({"a": "10", "b": "2", "c": "0"}))
    write(tmp_path / "training-1.tar", samples({"d": " 9\n"}))
    write(tmp_path / "val-0.tar", samples({"a": "2"}))
    training, test = open_images(tmp_path, "train"), open_images(tmp_path, "test")
    assert list(training.labels) == [10, 2, 0, 9]
    assert training.classes == test.classes == [str(number) for number in range(11)]
    assert list(test.labels) == [2]
    assert probed(tmp_path) == {
        **{f"train-0.tar/{key}.png": label for key, label in (("a", "10"), ("b", "2"), ("c", "0"))},
        "training-1.tar/d.png": "9",
        "val-0.tar/a.png": "2",
    }


def test_cls_files_may_hold_any_text(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", samples({"x/1": "dog", "x/2": "cat", "y/3": "10"}) | {"y/without.png": png(0)})
    write(tmp_path / "test.tar", samples({"1": "dog"}))
    training, test = open_images(tmp_path, "train"), open_images(tmp_path, "test")
    assert training.classes == test.classes == ["10", "cat", "dog"]
    assert (list(training.labels), list(test.labels)) == ([2, 1, 0], [2])
    assert training.keys == ["x/1.png", "x/2.png", "y/3.png"]  # in tars with labels, an image without one is left out
    assert training.image(2).getpixel((0, 0)) == (2, 4, 0)


def test_tars_without_label_files_have_classes_by_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", {"dog/1.png": png(1), "cat/2.png": png(2)})
    images = open_images(tmp_path, "train")
    assert (images.keys, images.classes, list(images.labels)) == (["cat/2.png", "dog/1.png"], ["cat", "dog"], [0, 1])


def test_names_with_dots_have_labels_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", samples({"0.25": "1", "0.5": "0"}))
    assert probed(tmp_path / "train.tar") == {"0.25.png": "1", "0.5.png": "0"}
    assert list(open_images(tmp_path, "train").labels) == [1, 0]


def test_numbers_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    for number in ("-1", "99999999999"):
        write(tmp_path / "train.tar", samples({"a": "3", "b": number}))
        with pytest.raises(ValueError, match=rf"labels that are numbers must be 0 to 1000000, got {number} for b\.png"):
            open_images(tmp_path, "train")


def test_the_test_split_may_be_missing_but_not_broken(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", samples({"a": "0"}))
    with pytest.raises(MissingSplitError, match="with test or val or validation among the splits"):
        open_images(tmp_path, "test")
    write(tmp_path / "test.tar", samples({"a": "-1"}))
    with pytest.raises(ValueError, match="labels that are numbers") as raised:
        open_images(tmp_path, "test")
    assert not isinstance(raised.value, MissingSplitError)


@pytest.mark.parametrize("kind", ["folder", "images.zip", "images.tar"])
def test_fingerprints_depend_on_keys_labels_and_sizes(tmp_path: Path, kind: str) -> None:
    def fingerprint(name: str, files: Mapping[str, bytes]) -> str:
        return open_images(write(tmp_path / name / kind, files), "train").fingerprint()

    def without(part: str) -> dict[str, bytes]:
        return {name: data for name, data in NESTED.items() if part not in name}

    first = fingerprint("first", NESTED)
    assert first == fingerprint("same", NESTED)
    assert first == fingerprint("other-test", without("validation/cat"))
    assert first != fingerprint("fewer", without("train/cat/2"))
    assert first != fingerprint("longer", {**NESTED, "train/cat/2.png": png(2) + b" "})
    exchanged = str.maketrans({"c": "d", "d": "c"})
    assert first != fingerprint("exchanged", {name.translate(exchanged): data for name, data in NESTED.items()})


def test_images_of_anybody_have_a_fingerprint() -> None:
    class Own(Images):
        classes = ("a", "b")

        def __init__(self, labels: list[int]) -> None:
            self.labels = labels

        def image(self, index: int) -> Image.Image:
            return Image.new("RGB", (2, 2))

    assert Own([0, 1]).fingerprint() == Own([0, 1]).fingerprint() != Own([1, 0]).fingerprint()


def test_forked_processes_read_one_zip_archive(tmp_path: Path) -> None:
    images = open_images(write(tmp_path / "images.zip", NESTED), "train")
    images.image(0)  # opened before the fork
    children = []
    for index in range(4):
        if (child := os.fork()) == 0:
            right = all(images.image(index).getpixel((0, 0)) == images.image(index).getpixel((1, 1)) for _ in range(50))
            os._exit(0 if right else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert pickle.loads(pickle.dumps(images)).image(3).size == (8, 8)
