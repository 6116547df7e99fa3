"""Worlds for tests of the store: what is called is counted, and dissections run in processes of their own."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lwta.dissection import Dissection, Embeddings, dissect, open_store
from tests.support.worlds import SIMILARITY, ColourNetwork, embeddings, images, to_tensor

COUNT = 30


class CountingClip:
    """Embeddings that say how many images they were asked for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._inner = embeddings(list(keys))
        self.encoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode_images(self, keys: Sequence[str], pixels: Tensor | None) -> Tensor:
        self.encoded += len(keys)
        return self._inner.encode_images(keys, pixels)


class World:
    """Thirty images, a CLIP and a network, and how often they were called."""

    def __init__(self, model: torch.nn.Module | None = None, count: int = COUNT) -> None:
        self.probe: Any = images(count)
        self.clip = CountingClip([key for key, _ in images(count)])
        self.model = model or ColourNetwork("sample")
        self.ran = 0
        self.model.register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.ran += len(output)

    def dissect(self, store: Path | None = None, layers: Any = ("act", "head"), **changes: Any) -> Dissection:
        """As `dissect`, with the arguments of this world."""
        arguments = {"clip": self.clip, "concepts": self.clip.concepts, "transform": to_tensor, "batch_size": 4}
        arguments |= {"progress": False, "store": store, "shard_images": 8, "similarity": SIMILARITY}
        return dissect(self.model, layers, self.probe, **{**arguments, **changes})

    def open(self, store: Path, concepts: Sequence[str] | None = None, **changes: Any) -> Dissection:
        """As `open_store`, with the arguments of this world."""
        arguments = {"clip": self.clip, "similarity": SIMILARITY}
        return open_store(store, concepts=concepts or self.clip.concepts, **{**arguments, **changes})

    def calls(self) -> tuple[int, int]:
        """Images that the network and CLIP saw since this was last asked."""
        seen, self.ran, self.clip.encoded = (self.ran, self.clip.encoded), 0, 0
        return seen


def other_clip() -> Embeddings:
    """A CLIP that knows the images of a world, each by the embedding of another."""
    clip = embeddings([key for key, _ in images(COUNT)])
    return Embeddings(list(clip._image_rows), clip._images.flip(0), clip.concepts, clip._texts)


def same(a: Dissection, b: Dissection) -> bool:
    """Whether two dissections say the same, to the last bit."""
    return a.layers == b.layers and all(
        torch.equal(a.similarities(layer).nan_to_num(), b.similarities(layer).nan_to_num())
        and repr(a.labels(layer)) == repr(b.labels(layer))
        and a.recording.top_images(layer, 4) == b.recording.top_images(layer, 4)
        and repr(a.recording.win_shares(layer)) == repr(b.recording.win_shares(layer))
        for layer in a.layers
    )


class SlowTransform:
    """Takes its time, writes a line of a log for every image, and ends the process after some."""

    def __init__(self, log: Path, seconds: float = 0.0, deadly: int | None = None) -> None:
        self._log, self._seconds, self._left = log, seconds, deadly

    def __repr__(self) -> str:
        return "SlowTransform()"

    def __call__(self, image: Image.Image) -> Tensor:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{image.getpixel((0, 0))}\n".encode())
        os.close(descriptor)
        time.sleep(self._seconds)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                os._exit(9)
        return to_tensor(image)


def dissect_slowly(store: Path | None, log: Path, count: int, shard: int) -> Dissection:
    """A dissection that is easily caught in the middle."""
    torch.set_num_threads(1)
    transform = SlowTransform(log, 0.003)
    return World(count=count).dissect(store, batch_size=2, shard_images=shard, transform=transform)


def dissect_apart(store: Path, log: Path, layers: list[str], gate: Any, name: str | None = None) -> None:
    """One of several commands that know nothing of each other; what it was warned of is written to the log."""
    torch.set_num_threads(1)
    world = World(ColourNetwork("sample"))
    gate.wait()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        transform = SlowTransform(log.with_suffix(".images"), 0.001)
        result = world.dissect(store, layers, batch_size=2, shard_images=2, transform=transform, name=name)
    torch.save({layer: result.similarities(layer) for layer in result.layers}, log.with_suffix(".pt"))
    log.write_text("\n".join(str(warning.message) for warning in warned))


def dissect_together(
    rank: int, size: int, folder: Path, shard: int, similarity: str, changes: dict[str, Any], deadly: int | None
) -> None:
    """One of several processes; what came out, or what went wrong, is written to a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    world = World()
    transform = SlowTransform(folder / "log", deadly=deadly if rank == size - 1 else None)
    arguments = {"shard_images": shard, "similarity": similarity, "transform": transform, **changes}
    try:
        result = world.dissect(folder / "store", **arguments)
    except Exception as error:
        (folder / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
    torch.save({layer: result.similarities(layer) for layer in result.layers}, folder / f"scores-{rank}.pt")
    (folder / f"calls-{rank}").write_text(json.dumps(world.calls()))
    torch.distributed.destroy_process_group()


def stop_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
    """Let a number of files come onto the disk, then fail."""
    synced: list[int] = []
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > writes:
            raise error
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
