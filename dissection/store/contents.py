"""What a store holds: image embeddings, for any network to share, and the activations of each network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from lwta.dissection.recording.activations import Activations
from lwta.dissection.recording.loading import Skipped
from lwta.dissection.recording.one_pass import Encoded
from lwta.dissection.store.folder import ShardFolder, digest_of_keys, other_parts
from lwta.dissection.store.manifest import MANIFEST, Grid, read_manifest
from lwta.dissection.store.packing import join, pack_activations, unpack_activations
from lwta.support.digests import checksum

NAME = re.compile(r"(?!images-)\w[\w.+-]*")


def network_folder(store: Path, name: str) -> Path:
    """Folder of a network of this name.

    Raises:
        ValueError: the name does not do for one.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"name must be letters, digits, '_', '.', '+' and '-', and not begin with 'images-', got {name!r}"
        )
    return store / name


class StoredImages:
    """CLIP embeddings, keys and labels of the images of a probe."""

    COLUMNS = ("keys", "features")

    def __init__(self, folder: ShardFolder) -> None:
        self.folder = folder

    @classmethod
    def at(cls, store: Path, clip: str, probe: str, grid: Grid, contents: Mapping[str, str]) -> StoredImages:
        """Those of an encoder and a probe, by their fingerprints, made if they are not there."""
        parts = {"clip": clip, "probe": probe, **contents}
        return cls(ShardFolder.at(cls._find(store, parts), "images", parts, grid))

    @classmethod
    def open(cls, store: Path, clip: str, probe: str, contents: Mapping[str, str]) -> StoredImages:
        """The same, but FileNotFoundError if they are not there."""
        return cls(ShardFolder(cls._find(store, {"clip": clip, "probe": probe, **contents}), "images"))

    @staticmethod
    def _find(store: Path, parts: Mapping[str, str]) -> Path:
        """The first folder of these images, or where it should be; images that were replaced have another number."""
        of_both = checksum(f"{parts['clip']} {parts['probe']}".encode())
        first = store / f"images-{of_both[:12]}"
        numbered = (first if number == 1 else first.with_name(f"{first.name}-{number}") for number in count(1))
        return next(
            path
            for path in numbered
            if not (path / MANIFEST).exists() or not other_parts(read_manifest(path, "images")[0]["parts"], parts)
        )

    def missing(self) -> set[int]:
        """The shards that are not there or damaged."""
        return set(self.folder.missing(self.COLUMNS))

    def write(self, shard: int, probe_keys: Sequence[str], batches: Sequence[Encoded]) -> None:
        """Store a shard, whose images have these keys in the probe, readable or not."""
        place = {key: i for i, key in enumerate(probe_keys)}
        readable = [batch for batch in batches if batch.keys]
        keys = [key for batch in readable for key in batch.keys]
        listed = {
            "keys": keys,
            "labels": [label for batch in readable for label in batch.labels],
            "skipped": [[place[image.key], *image] for batch in batches for image in batch.skipped],
        }
        columns = {
            "keys": json.dumps(listed).encode(),
            "features": save({"features": torch.cat([batch.features for batch in readable])} if readable else {}),
        }
        self.folder.write(shard, digest_of_keys(keys), columns)


class ImageTable:
    """The images of a store whose shards are all there: their keys in memory, their embeddings read when asked for."""

    def __init__(self, images: StoredImages) -> None:
        self._folder = images.folder
        self.keys: list[str] = []
        """Of the readable images, in the order of the probe."""
        self.labels: list[str | None] = []
        self.skipped: list[Skipped] = []
        grid = self._folder.grid
        readable = np.ones(grid.images, dtype=bool)
        for shard in range(grid.shards):
            listed = json.loads(self._folder.read(shard, "keys"))
            self.keys += listed["keys"]
            self.labels += listed["labels"]
            for place, key, problem in listed["skipped"]:
                readable[grid.images_of(shard).start + place] = False
                self.skipped.append(Skipped(key, problem))
        self._before = np.concatenate([[0], readable.cumsum()])  # readable images before each place of the probe
        self._held: tuple[int, Tensor] | None = None

    def rows(self, places: range) -> slice:
        """Of these places of the probe, the rows among the readable images."""
        return slice(int(self._before[places.start]), int(self._before[places.stop]))

    def features(self, places: range) -> Tensor:
        """(n, d) float32: the embeddings of the readable images at these places of the probe; (0, 0) without any."""
        grid, parts = self._folder.grid, []
        size = grid.batch_size * grid.batches
        for shard in range(places.start // size, -(-places.stop // size)):
            start = self.rows(grid.images_of(shard)).start
            first, last = (max(place, grid.images_of(shard).start) for place in (places.start, places.stop))
            rows = self.rows(range(first, min(last, grid.images_of(shard).stop)))
            if rows.stop > rows.start:
                parts.append(self._features_of(shard)[rows.start - start : rows.stop - start])
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _features_of(self, shard: int) -> Tensor:
        """Of a shard; the last one is held, as finer grids ask for it several times in a row."""
        if self._held is None or self._held[0] != shard:
            self._held = shard, load(self._folder.read(shard, "features"))["features"]
        return self._held[1]


class StoredActivations:
    """Activations of the layers of a network on the images of a probe."""

    def __init__(self, folder: ShardFolder) -> None:
        self.folder = folder

    @property
    def layers(self) -> list[str]:
        """Names of the layers, those of which shards are missing too."""
        return list(self.folder.manifest.get("layers", []))

    def missing(self, layers: Sequence[str]) -> dict[int, tuple[str, ...]]:
        """By shard, the layers of these that are not there or damaged."""
        names = {_column(layer): layer for layer in layers}  # in the order of the layers
        missing = self.folder.missing(list(names))
        return {shard: tuple(names[column] for column in columns) for shard, columns in missing.items()}

    def write(self, shard: int, layers: Sequence[str], batches: Sequence[Encoded]) -> None:
        """Store the layers of a shard."""
        readable = [batch for batch in batches if batch.keys]
        keys = [key for batch in readable for key in batch.keys]
        columns = {
            _column(layer): pack_activations(join([batch.activations[layer] for batch in readable])) for layer in layers
        }
        self.folder.write(shard, digest_of_keys(keys), columns)

    @staticmethod
    def columns(layers: Sequence[str]) -> set[str]:
        """Of the table of shards, those of the layers."""
        return {_column(layer) for layer in layers}

    def fits(self, shard: int, keys: Sequence[str]) -> bool:
        """Whether the shard is of the readable images with these keys."""
        entry = self.folder.entries.get(shard)
        return entry is not None and entry.keys == digest_of_keys(keys)

    def read(self, shard: int, layer: str) -> Activations | None:
        """Of a layer on the readable images of a shard; None if there is none."""
        return unpack_activations(self.folder.read(shard, _column(layer)))


def _column(layer: str) -> str:
    """Folder of a layer; its name may hold any character but a full stop within a part."""
    return f"layers/{quote(layer, safe='')}"
