"""Folders in which something other than a file has the name of a tar archive."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lwta.images import Probe, open_images


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Path]:
    """One archive; a pipe, which has a writer, so that a mistake fails instead of waiting; and a folder."""
    data = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(data, "PNG")
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        member = tarfile.TarInfo("red/1.png")
        member.size = len(data.getvalue())
        archive.addfile(member, io.BytesIO(data.getvalue()))
    os.mkfifo(tmp_path / "train-1.tar")
    (tmp_path / "train-2.tar").mkdir()
    writer = os.open(tmp_path / "train-1.tar", os.O_RDWR)
    os.write(writer, bytes(512))
    yield tmp_path
    os.close(writer)


def test_pipes_and_folders_among_the_shards_of_a_probe_are_passed_over(shards: Path) -> None:
    assert list(Probe.of(shards).keys) == ["red/1.png"]


def test_pipes_and_folders_among_the_shards_of_a_split_are_passed_over(shards: Path) -> None:
    assert list(open_images(shards, "train").classes) == ["red"]
