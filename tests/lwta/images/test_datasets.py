"""Datasets of torchvision and Hugging Face as probes."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from lwta.dissection import Probe
from lwta.dissection.recording.loading import batches
from tests.support.worlds import to_tensor


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def cut_off() -> Image.Image:
    """An image that was opened, not yet decoded, and will not be."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:1000]))


class ClassLabel:
    """As Hugging Face's ``datasets`` has it."""

    names = ("cat", "dog")


class Rows:
    """Like a Hugging Face dataset: rows as dicts, class names in the features."""

    def __init__(self, rows: list[Any], features: dict[str, Any] | None = None) -> None:
        self.rows, self.features = rows, features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = self.rows[index]
        if isinstance(row, Exception):
            raise row
        return row


def samples(probe: Probe) -> list[Any]:
    return [probe[i] for i in range(len(probe))]  # type: ignore[arg-type]


def test_rows_with_class_names() -> None:
    red = Image.new("L", (4, 4))
    rows = [
        {"image": red, "label": 1},
        {"image": red, "label": np.int64(0)},
        {"image": red, "label": torch.tensor(1)},
        {"image": red, "label": -1},  # unknown
        {"image": red, "label": None},
        {"image": red},
        {"image": {"bytes": png(), "path": None}, "label": 0},
        {"image": png(), "label": 0},
    ]
    probe = Probe.of(Rows(rows, {"image": object(), "label": ClassLabel()}))
    assert probe.keys == list("01234567")
    read = samples(probe)
    assert [sample.label for sample in read] == ["dog", "cat", "dog", None, None, None, "cat", "cat"]
    assert {(sample.image.mode, sample.image.size) for sample in read} == {("RGB", (4, 4))}


def test_rows_without_class_names() -> None:
    image = Image.new("RGB", (4, 4))
    read = samples(Probe.of(Rows([{"image": image, "label": 3}, {"image": image, "label": "cat"}])))
    assert [sample.label for sample in read] == ["3", "cat"]


def test_broken_rows_are_skipped_and_mistakes_are_not() -> None:
    cut = cut_off()
    broken = [OSError("disk"), SyntaxError("broken PNG file"), Image.DecompressionBombError("large")]
    rows = [*broken, {"image": cut}, {"image": b"no image"}, {"image": Image.new("RGB", (4, 4))}]
    read = samples(Probe.of(Rows(rows)))
    assert [sample.image is None for sample in read] == [True] * 5 + [False]
    assert [sample.problem for sample in read[:3]] == ["disk", "broken PNG file", "large"]
    assert all(sample.problem for sample in read[3:5])
    with pytest.raises(KeyError):
        Probe.of(Rows([KeyError("column")]))[0]
    with pytest.raises(TypeError, match=r"rows with an 'image', but row '0' has 'img', 'label'"):
        Probe.of(Rows([{"img": 1, "label": 2}]))[0]
    with pytest.raises(TypeError, match="must yield PIL images, but '0' is of type ndarray"):
        Probe.of(Rows([{"image": np.zeros((4, 4, 3))}]))[0]


def test_a_mapping_of_splits() -> None:
    with pytest.raises(TypeError, match="of a mapping, pass one entry: 'train', 'test'"):
        Probe.of({"train": Rows([]), "test": Rows([])})


def test_torchvision(tmp_path: Path) -> None:
    fake = Probe.of(torchvision.datasets.FakeData(11, (3, 6, 6), 4))
    assert fake.keys is not None
    assert fake.keys[-1] == "10"
    assert {sample.label for sample in samples(fake)} <= set("0123")
    for name in ("dog/a.png", "cat/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png())
    (tmp_path / "dog" / "c.png").write_bytes(png()[:40])
    read = samples(Probe.of(torchvision.datasets.ImageFolder(str(tmp_path))))
    assert [sample.label for sample in read] == ["cat", "dog", None]
    assert read[2].image is None
    assert [sample.label for sample in samples(Probe.of(tmp_path))] == ["cat", "dog", "dog"]


def test_pairs_are_converted_when_they_are_read() -> None:
    cut = cut_off()
    pairs = [("a", Image.new("L", (4, 4))), ("b", cut)]
    for probe in (Probe.of(pairs), Probe.of(iter(pairs))):
        ((_, batch),) = batches(probe, to_tensor, None, 4, 0)
        assert batch.keys == ["a"]
        assert [image.key for image in batch.skipped] == ["b"]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_processes(workers: int) -> None:
    rows = [{"image": Image.new("RGB", (4, 4), (i, 0, 0)), "label": i % 2} for i in range(9)]
    probe = Probe.of(Rows(rows, {"label": ClassLabel()}))
    probe = pickle.loads(pickle.dumps(probe))
    read = [batch for _, batch in batches(probe, to_tensor, None, 2, workers)]
    assert [key for batch in read for key in batch.keys] == list("012345678")
    values = torch.cat([batch.inputs for batch in read if batch.inputs is not None])[:, 0, 0, 0]
    assert torch.equal(values, torch.arange(9) / 255)
