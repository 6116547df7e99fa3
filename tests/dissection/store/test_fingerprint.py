"""What a recording depends on differs when it does, and does not when it does not."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from lwta.dissection import Probe
from lwta.dissection.store.fingerprint import (
    fingerprint_architecture,
    fingerprint_images,
    fingerprint_probe,
    fingerprint_weights,
)
from lwta.dissection.store.transform_text import describe
from lwta.images import base
from lwta.images.folders import FolderProbe
from tests.support.worlds import ColourNetwork, images, to_tensor

SIZE = 4


def sized(image: Image.Image) -> torch.Tensor:
    return to_tensor(image.resize((SIZE, SIZE)))


def scaled(factor: float) -> Callable[[Image.Image], torch.Tensor]:
    return lambda image: to_tensor(image) * factor


class Scale:
    """Says nothing of itself."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.calls = 0

    def __call__(self, image: Image.Image) -> torch.Tensor:
        self.calls += 1
        return to_tensor(image) * self.factor


TRANSFORMS: dict[str, Callable[[], Any]] = {
    "function": lambda: to_tensor,
    "lambda": lambda: lambda image: to_tensor(image),
    "closure": lambda: scaled(2),
    "other closure": lambda: scaled(3),
    "partial": lambda: partial(torch.mul, other=2),
    "other partial": lambda: partial(torch.mul, other=3),
    "object": lambda: Scale(2),
    "other object": lambda: Scale(3),
    "compose": lambda: transforms.Compose([transforms.Resize(4), transforms.ToTensor()]),
    "other compose": lambda: transforms.Compose([transforms.Resize(5), transforms.ToTensor()]),
    "compose of lambda": lambda: transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda x: x + 1)]),
    "compose of other lambda": lambda: transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda x: x + 2)]),
    "v2": lambda: v2.Compose([v2.ToImage(), v2.Lambda(scaled(2))]),
    "other v2": lambda: v2.Compose([v2.ToImage(), v2.Lambda(scaled(3))]),
    "sequential": lambda: torch.nn.Sequential(v2.Lambda(scaled(2))),
    "other sequential": lambda: torch.nn.Sequential(v2.Lambda(scaled(3))),
    "method": lambda: Scale(2).__call__,
    "other method": lambda: Scale(3).__call__,
}


def test_transforms_are_told_apart() -> None:
    descriptions = {name: describe(make()) for name, make in TRANSFORMS.items()}
    assert len(set(descriptions.values())) == len(descriptions)
    assert descriptions == {name: describe(make()) for name, make in TRANSFORMS.items()}
    assert not any("0x" in text for text in descriptions.values())


def test_constants_of_the_module_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe(sized)
    monkeypatch.setitem(sized.__globals__, "SIZE", 5)
    assert describe(sized) != before


def test_what_changes_at_each_call_does_not_count() -> None:
    calls, seen = 0, []

    def counting(image: Image.Image) -> torch.Tensor:
        nonlocal calls
        calls += 1
        seen.append(image)
        return to_tensor(image)

    for transform in (counting, Scale(2)):
        before = describe(transform)
        transform(Image.new("RGB", (2, 2)))
        assert describe(transform) == before


def test_functions_without_a_source() -> None:
    made = [eval(f"lambda image: image + {number}") for number in (1, 1, 2)]
    first, same, other = map(describe, made)
    assert first == same != other


def test_things_that_hold_themselves() -> None:
    scale = Scale(2)
    scale.itself = scale  # type: ignore[attr-defined]
    assert describe(scale) == describe(scale)


class Dataset:
    """Images without keys."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Dataset({self.name!r})"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (2, 2))


def test_probes() -> None:
    pairs = images(5)
    sources: list[Any] = [pairs, pairs[:4], pairs[::-1], Dataset("a"), Dataset("b"), [Image.new("RGB", (2, 2))] * 3]
    prints = [fingerprint_probe(Probe.of(source)) for source in sources]
    assert len(set(prints)) == len(prints)
    assert prints == [fingerprint_probe(Probe.of(source)) for source in sources]
    assert fingerprint_probe(Probe.of([(key, image.rotate(9)) for key, image in pairs])) == prints[0]


def test_probes_of_files(tmp_path: Path) -> None:
    """A folder and archives of the same files are the same probe; a file of another size makes another."""
    root = tmp_path / "photos"
    (root / "red").mkdir(parents=True)
    for name in ("red/a.png", "red/b.png"):
        Image.new("RGB", (4, 4), "red").save(root / name)
    shutil.make_archive(str(tmp_path / "photos"), "zip", root)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for name in ("red/a.png", "red/b.png"):
            archive.add(root / name, name)
    prints = {fingerprint_probe(Probe.of(tmp_path / name)) for name in ("photos", "photos.zip", "photos.tar")}
    assert len(prints) == 1
    probe = Probe.of(root)
    Image.effect_noise((4, 4), 99).convert("RGB").save(root / "red" / "b.png")
    assert fingerprint_probe(probe) not in prints
    (root / "red" / "b.png").unlink()
    assert fingerprint_probe(probe) not in prints


def test_contents_of_images(tmp_path: Path) -> None:
    """Known by the ends of files in folders and tar archives, alike, and by the CRC in zip archives."""
    root = tmp_path / "photos"
    (root / "red").mkdir(parents=True)
    for name in ("red/a.bmp", "red/b.bmp"):
        Image.effect_noise((64, 64), 99).convert("RGB").save(root / name)
    large = root / "red" / "b.bmp"
    assert large.stat().st_size > 8192

    def prints() -> dict[str, dict[str, str]]:
        shutil.make_archive(str(tmp_path / "photos"), "zip", root)
        with tarfile.open(tmp_path / "photos.tar", "w") as archive:
            for name in ("red/a.bmp", "red/b.bmp"):
                archive.add(root / name, name)
        return {name: fingerprint_images(Probe.of(tmp_path / name)) for name in ("photos", "photos.tar", "photos.zip")}

    before = prints()
    assert before["photos"] == before["photos.tar"]
    assert before["photos"].keys() == {"image content"}
    assert before["photos.zip"].keys() == {"image CRC"}
    shutil.copytree(root, tmp_path / "copy")
    assert fingerprint_images(Probe.of(tmp_path / "copy")) == before["photos"]
    for place, noticed in ((-1, {"photos", "photos.tar", "photos.zip"}), (60, {*before}), (5000, {"photos.zip"})):
        data = bytearray(large.read_bytes())
        data[place] ^= 1
        large.write_bytes(data)
        after = prints()
        assert {name for name in after if after[name] != before[name]} == noticed
        before = after
    assert fingerprint_images(Probe.of(images(3))) == {}


def test_contents_of_many_images_are_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(7):
        Image.new("RGB", (2, 2), (i, 0, 0)).save(tmp_path / f"{i}.bmp")
    monkeypatch.setattr(base, "LOOKED_AT", 3)
    probe = Probe.of(tmp_path)
    assert [bool(digest) for digest in probe.digests()] == [True, False, False, True, False, False, True]


def test_pipes_and_devices_have_no_contents(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.bmp")
    os.mkfifo(tmp_path / "b.bmp")
    (tmp_path / "c.bmp").symlink_to("/dev/zero")
    (tmp_path / "d.bmp").symlink_to("nowhere")
    first, *others = FolderProbe(tmp_path, ["a.bmp", "b.bmp", "c.bmp", "d.bmp"]).digests()
    assert first.startswith("ends:")
    assert others == ["", "", ""]


def test_networks() -> None:
    a, b = ColourNetwork(), ColourNetwork("sample")
    assert fingerprint_weights(a) == fingerprint_weights(b)
    assert fingerprint_architecture(a) == fingerprint_architecture(ColourNetwork())
    assert fingerprint_architecture(a) != fingerprint_architecture(b)
    before = fingerprint_weights(a)
    with torch.no_grad():
        a.head.weight[0, 0] = torch.nextafter(a.head.weight[0, 0], torch.tensor(9.0))
    assert fingerprint_weights(a) != before
    assert fingerprint_weights(a.bfloat16()) != fingerprint_weights(b.bfloat16().half())
    norms = [torch.nn.BatchNorm2d(2) for _ in range(2)]
    norms[0](torch.rand(2, 2, 2, 2))
    assert len({fingerprint_weights(norm) for norm in norms}) == 2
