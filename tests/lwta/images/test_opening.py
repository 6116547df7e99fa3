"""Probing sets of every kind, whole and broken."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lwta.dissection import Probe
from lwta.dissection.recording.loading import Batch, batches
from lwta.dissection.store.fingerprint import fingerprint_probe
from tests.support.worlds import to_tensor


def png(colour: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).convert(mode).save(file, "PNG")
    return file.getvalue()


FILES = {
    "red/b.png": png("red"),
    "red/a.PNG": png("red", "L"),
    "blue/deep/c.png": png("blue", "P"),
    "top.png": png("white"),
    "red/broken.png": png("red")[:40],
    "red/empty.jpg": b"",
    "notes.txt": b"no image",
}
READABLE = ["blue/deep/c.png", "red/a.PNG", "red/b.png", "top.png"]
BROKEN = ["red/broken.png", "red/empty.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for name, data in FILES.items():
            file.writestr(name, data)
        file.writestr("folder.png/", b"")
    return tmp_path / "images.zip"


def read(probe: Probe, workers: int = 0) -> Batch:
    """Everything in one batch, put together of small ones."""
    parts = [batch for _, batch in batches(probe, to_tensor, None, 2, workers)]
    inputs = [part.inputs for part in parts if part.inputs is not None]
    return Batch(
        [key for part in parts for key in part.keys],
        [label for part in parts for label in part.labels],
        torch.cat(inputs),
        None,
        [image for part in parts for image in part.skipped],
    )


def test_photographs_are_as_pil_reads_them(photographs: Path) -> None:
    """Keys, labels and pixels of ordinary files."""
    probe = Probe.of(photographs)
    with zipfile.ZipFile(photographs) as archive:
        assert probe.keys == sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for index in range(0, len(probe.keys), max(len(probe.keys) // 33, 1)):
            key, image, label, _ = probe[index]
            with archive.open(key) as file, Image.open(file) as expected:
                assert image is not None
                assert image.tobytes() == expected.convert("RGB").tobytes()
            assert label == key.split("/")[0]


def test_images_are_as_stores_of_version_0_1_0_know_them(tmp_path: Path) -> None:
    """What was recorded then can be used further."""
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number, key in enumerate(("ketch/b.jpg", "Faces/a.jpg", "ketch/é.png", "top.jpg", "notes.txt")):
            archive.writestr(key, bytes(100 * number))
    assert fingerprint_probe(Probe.of(tmp_path / "images.zip")) == "4 images, 5b1380283317e1416595413c9dfcb48d"


def test_real_photographs_are_as_stores_of_version_0_1_0_know_them(shared_data: Path) -> None:
    probe = Probe.of(shared_data / "caltech101-val.zip")
    assert fingerprint_probe(probe) == "1649 images, bb5825beac7c03b7b8547e201784e746"


@pytest.mark.parametrize("stream", [False, True])
def test_some_batches_alone(stream: bool) -> None:
    pairs = [(f"{i}", Image.new("RGB", (2, 2))) for i in range(7)]
    probe = Probe.of(iter(pairs) if stream else pairs)
    read = [(number, batch.keys) for number, batch in batches(probe, to_tensor, None, 3, 0, only={0, 2})]
    assert read == [(0, ["0", "1", "2"]), (2, ["6"])]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_files(kind: str, workers: int, request: pytest.FixtureRequest) -> None:
    probe = Probe.of(str(request.getfixturevalue(kind)))
    assert probe.keys == sorted(READABLE + BROKEN)
    everything = read(probe, workers)
    assert everything.keys == READABLE
    assert everything.labels == ["blue", "red", "red", None]
    assert everything.inputs is not None
    assert everything.inputs[2, :, 0, 0].tolist() == [1, 0, 0]
    assert everything.inputs.shape == (4, 3, 4, 4)  # RGB, whatever the files hold
    assert [image.key for image in everything.skipped] == BROKEN
    assert all(image.problem for image in everything.skipped)
    with pytest.warns(
        UserWarning, match=r"lacks 2 of the images, or cannot read them: 'red/broken\.png', 'red/gone\.png'$"
    ):
        found = [key for key, _ in probe.images(["red/broken.png", "red/gone.png", "red/b.png"])]
    assert found == ["red/b.png"]


def test_names_in_an_archive_are_not_paths(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        file.writestr("../../outside.png", png("red"))
        file.writestr("/etc/absolute.png", png("red"))
    assert read(Probe.of(tmp_path / "images.zip")).keys == ["../../outside.png", "/etc/absolute.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["images.zip"]


def test_a_damaged_entry_is_skipped(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    place = data.find(FILES["red/b.png"])  # stored, not compressed
    data[place + 20] ^= 255
    archive.write_bytes(data)
    assert [image.key for image in read(Probe.of(archive)).skipped] == ["red/b.png", *BROKEN]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        file.writestr("a.png", png("red"))
        file.writestr("a.png", png("blue"))
    with pytest.raises(ValueError, match=r"images\.zip must hold every key once, it repeats 'a\.png'"):
        Probe.of(tmp_path / "images.zip")


class Colours:
    """Like a torchvision dataset."""

    classes = ("white", "black")

    def __init__(self, count: int, item: Any = None) -> None:
        self.count, self.item = count, item

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise OSError("disk on fire")
        return self.item or (Image.new("L", (4, 4), 255), index % 2)


def test_a_dataset() -> None:
    everything = read(Probe.of(Colours(12)))
    assert everything.keys[:4] == ["00", "01", "02", "04"]
    assert everything.labels[:4] == ["white", "black", "white", "white"]
    assert everything.skipped == [("03", "disk on fire")]


def test_a_dataset_of_images_alone() -> None:
    everything = read(Probe.of(Colours(2, Image.new("RGB", (4, 4)))))
    assert everything.keys == ["0", "1"]
    assert everything.labels == [None, None]


def pairs() -> Iterator[tuple[str, Image.Image]]:
    for colour in ("red", "green", "blue"):
        yield colour, Image.new("RGB", (4, 4), colour)


def test_pairs() -> None:
    listed, streamed = Probe.of(list(pairs())), Probe.of(pairs())
    assert listed.keys == ["red", "green", "blue"]
    assert streamed.keys is None
    assert read(listed, workers=1).keys == read(streamed, workers=2).keys == ["red", "green", "blue"]
    assert [key for key, _ in listed.images(["blue"])] == ["blue"]
    assert list(streamed.images(["blue"])) == []


def test_what_is_no_probe(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no"):
        Probe.of(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least one image"):
        Probe.of(tmp_path)
    (tmp_path / "file.zip").write_text("not an archive")
    with pytest.raises(ValueError, match="neither"):
        Probe.of(tmp_path / "file.zip")
    with pytest.raises(TypeError, match="got int"):
        Probe.of(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="repeats 'red'"):
        Probe.of([*pairs(), *pairs()][:4])
    with pytest.raises(TypeError, match="must yield PIL images, but '0' is of type Tensor"):
        read(Probe.of(Colours(2, (torch.zeros(3, 4, 4), 0))))
    with pytest.raises(TypeError, match=r"pairs of a key \(str\) and an image, got int"):
        read(Probe.of(iter([1, 2])))


def test_images_of_different_shapes_after_the_transform() -> None:
    images = [("a", Image.new("RGB", (4, 4))), ("b", Image.new("RGB", (5, 4)))]
    with pytest.raises(ValueError, match="transform must turn every image into a tensor of one shape, got"):
        read(Probe.of(images))


def test_an_archive_that_is_cut_off_is_said_to_be_damaged(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"images\.zip is a damaged zip archive, perhaps cut off: "):
        Probe.of(archive)


def test_an_entry_that_holds_more_than_it_claims_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(50_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace((50_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    tracemalloc.start()
    problem = Probe.of(path)[0].problem
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problem
    assert peak < 10_000_000
