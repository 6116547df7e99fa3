"""Tar archives and WebDataset shards as probes."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from lwta.dissection import Probe
from lwta.dissection.recording.loading import batches
from lwta.images.opening import expand
from tests.support.worlds import to_tensor


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def write(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def labels(probe: Probe) -> dict[str, str | None]:
    return {sample.key: sample.label for sample in (probe[i] for i in range(len(probe)))}  # type: ignore[arg-type]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of two samples each."""
    for i in range(3):
        files = {f"{i}{j}.{kind}": png("red") if kind == "png" else b"7\n" for j in range(2) for kind in ("cls", "png")}
        write(tmp_path / "shards" / f"train-{i + 8:03d}.tar", files)
    return tmp_path / "shards"


KEYS = [f"train-{i + 8:03d}.tar/{i}{j}.png" for i in range(3) for j in range(2)]


def test_ranges_lists_and_folders_of_shards(shards: Path) -> None:
    for source in (
        str(shards / "train-{008..010}.tar"),
        shards / "train-{008..010}.tar",
        sorted(shards.iterdir()),
        [str(shards / "train-{008..009}.tar"), str(shards / "train-010.tar")],
        shards,
        str(shards),
    ):
        assert Probe.of(source).keys == KEYS
    assert labels(Probe.of(shards)) == dict.fromkeys(KEYS, "7")


def test_expansion() -> None:
    assert list(expand("a")) == ["a"]
    assert list(expand("s-{8..11}")) == ["s-8", "s-9", "s-10", "s-11"]
    assert list(expand("s-{000000..000127}.tar"))[::127] == ["s-000000.tar", "s-000127.tar"]
    assert list(expand("{a,b}/{0..1}-{00..01}")) == [f"{a}/{i}-0{j}" for a in "ab" for i in range(2) for j in range(2)]
    assert list(expand("{x}")) == ["{x}"]
    for bad in ("{5..4}", "{0..1000000}"):
        with pytest.raises(ValueError, match="ranges of 1 to 1000000 shards"):
            list(expand(bad))


def test_shards_that_are_not_there(shards: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"archives that are there; there is no .*train-011\.tar"):
        Probe.of(str(shards / "train-{008..011}.tar"))
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere\.tar"):
        Probe.of([shards / "nowhere.tar"])


def test_shards_of_one_name_in_two_folders(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "0.tar", {"x.png": png("red")}) for folder in ("a", "b")]
    assert Probe.of(paths).keys == ["a/0.tar/x.png", "b/0.tar/x.png"]
    with pytest.raises(ValueError, match=r"every key once, it repeats '0\.tar/x\.png'"):
        Probe.of([paths[0], paths[0]])


def test_labels(tmp_path: Path) -> None:
    files = {
        "dogs/1.jpg": b"broken",  # labels do not depend on the image
        "2.txt": b"a caption\n",
        "2.json": b'{"label": 5}',
        "2.png": png("red"),
        "2.mask.png": png("red"),  # another part of the sample
        "3.txt": b" a caption\n",
        "3.PNG": png("red"),
        "4.png": png("red"),
        "4.json": b'{"label": [1]}',
        "5.png": png("red"),
        "5.json": b'{"label": ' + b"[" * 100_000,
        "6.json": b'{"label": "cat"}',
        "6.cls": b"9",
        "6.left.png": png("red"),
        "6.right.png": png("red"),
        "cats/7.1.png": png("red"),
        "cats/7.png": png("red"),
    }
    probe = Probe.of(write(tmp_path / "a.tar", files))
    assert labels(probe) == {
        "dogs/1.jpg": "dogs",
        "2.png": "5",
        "3.PNG": "a caption",
        "4.png": None,
        "5.png": None,
        "6.left.png": "9",
        "6.right.png": "9",
        "cats/7.1.png": "cats",
        "cats/7.png": "cats",
    }


def test_names_in_an_archive_are_only_names(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png("white"))
    path = write(tmp_path / "in" / "a.tar", {"/etc/x.png": png("red"), "../secret.png": png("blue")})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("zero.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    probe = Probe.of(path)
    samples = {sample.key: sample for sample in map(probe.__getitem__, range(5))}
    assert list(samples) == ["/etc/x.png", "../secret.png", "soft.png", "hard.png", "zero.png"]
    image = samples["../secret.png"].image
    assert image is not None
    assert image.getpixel((0, 0)) == (0, 0, 255)  # the archive's, not the file of this name
    for name in ("soft.png", "hard.png", "zero.png"):
        assert samples[name].image is None
        assert samples[name].problem == "a link or device in the archive, not a file"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_truncated_shard_is_named_and_used_up_to_there(shards: Path) -> None:
    path = shards / "train-009.tar"
    path.write_bytes(path.read_bytes()[: 4 * 512])  # .cls, .png and what would be the next header
    with pytest.warns(UserWarning, match=r"train-009\.tar is damaged: .* without an end mark .* the 2 files before"):
        probe = Probe.of(shards)
    assert probe.keys == [key for key in KEYS if key != KEYS[3]]


def test_an_archive_that_shrinks_later(shards: Path) -> None:
    probe = Probe.of(shards / "train-008.tar")
    os.truncate(shards / "train-008.tar", 1100)
    assert "is shorter than it was" in probe[0].problem


def test_compressed_archives_are_refused(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress((shards / "train-008.tar").read_bytes()))
    with pytest.raises(ValueError, match=r"a\.tar\.gz must be .* it is compressed as a whole with gzip: decompress it"):
        Probe.of(path)
    path = path.rename(tmp_path / "a.tar")  # whatever its name is
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="at least one image"):
        Probe.of(path)


def test_empty_archives_and_folders_of_both(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"empty\.tar must hold at least one image, it holds none"):
        Probe.of(write(tmp_path / "empty.tar", {}))
    (shards / "preview.png").write_bytes(png("red"))
    assert Probe.of(shards).keys == ["preview.png"]


def test_an_archive_of_another_name(shards: Path, tmp_path: Path) -> None:
    path = (shards / "train-008.tar").rename(tmp_path / "archive")
    assert Probe.of(path).keys == ["00.png", "01.png"]


def test_images_too_large_are_skipped(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.png").write_bytes(png("red"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.png", bytes(100_000))
    sources = (shards, tmp_path / "folder", tmp_path / "x.zip")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 7)  # images have 16 pixels: more than twice that
    for source in sources[:2]:
        assert "DecompressionBombError" in Probe.of(source)[0].problem
    monkeypatch.setattr("lwta.images.decoding.MAX_BYTES", 50)
    for source in sources:
        assert "more than the 50 of any image" in Probe.of(source)[0].problem


@pytest.mark.parametrize("workers", [0, 2])
def test_photographs_are_the_same_from_zip_and_tar(photographs: Path, tmp_path: Path, workers: int) -> None:
    """The same images and labels from a zip archive and from shards made of it, in any number of processes."""
    with zipfile.ZipFile(photographs) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))[:60]
        data = {name: file.read(name) for name in names}
    write(tmp_path / "whole.tar", data)
    for i in range(3):
        write(tmp_path / "shards" / f"{i:02d}.tar", {name: data[name] for name in names[i * 20 : i * 20 + 20]})

    def transform(image: Image.Image) -> torch.Tensor:
        return to_tensor(image.resize((16, 16)))

    def read(probe: Probe, workers: int = 0) -> list[tuple[str, str | None, torch.Tensor]]:
        rows = []
        for _, batch in batches(probe, transform, None, 7, workers, only=range(9)):
            assert batch.inputs is not None
            rows += zip(batch.keys, batch.labels, batch.inputs, strict=True)
        return rows[:60]

    expected = read(Probe.of(photographs))
    probes = (Probe.of(tmp_path / "whole.tar"), Probe.of(str(tmp_path / "shards" / "{00..02}.tar")))
    for probe in (*probes, *(pickle.loads(pickle.dumps(probe)) for probe in probes)):
        probe[0]  # opened before the processes fork
        rows = read(probe, workers)
        assert [key.split(".tar/")[-1] for key, _, _ in rows] == [key for key, _, _ in expected] == names
        assert [label for _, label, _ in rows] == [label for _, label, _ in expected]
        assert all(torch.equal(one, other) for (*_, one), (*_, other) in zip(rows, expected, strict=True))


def test_images_by_key(shards: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = Probe.of(shards)
    assert [key for key, _ in probe.images([KEYS[5], KEYS[0], KEYS[4]])] == [KEYS[5], KEYS[0], KEYS[4]]
