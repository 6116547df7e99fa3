"""Contents of a store: image embeddings, which all networks share, and the activations of each network."""

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
    """Return the folder of the network with this name.

    Raises:
        ValueError: the name cannot be that of a folder.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"name must be letters, digits, '_', '.', '+' and '-', and not begin with 'images-', got {name!r}"
        )
    return store / name


class StoredImages:
    """Stored CLIP embeddings, keys and labels of the images of a probe.

    Args:
        folder: folder of shards that holds them.
    """

    COLUMNS = ("keys", "features")

    def __init__(self, folder: ShardFolder) -> None:
        self.folder = folder

    @classmethod
    def at(cls, store: Path, clip: str, probe: str, grid: Grid, contents: Mapping[str, str]) -> StoredImages:
        """Open or create the image table of an encoder and a probe.

        Args:
            store: folder of the store.
            clip: `embedder` of the images.
            probe: fingerprint of the probe.
            grid: grid of a new folder; an existing one keeps its own.
            contents: digests of the images' content, as `fingerprint_images` returns them.

        Raises:
            ValueError: the manifest is of another version, or damaged.
        """
        parts = {"clip": clip, "probe": probe, **contents}
        return cls(ShardFolder.at(cls._find(store, parts), "images", parts, grid))

    @classmethod
    def open(cls, store: Path, clip: str, probe: str, contents: Mapping[str, str]) -> StoredImages:
        """Open the image table of an encoder and a probe; arguments are those of `at`.

        Raises:
            FileNotFoundError: there is no such table.
            ValueError: the manifest is of another version, or damaged.
        """
        return cls(ShardFolder(cls._find(store, {"clip": clip, "probe": probe, **contents}), "images"))

    @staticmethod
    def _find(store: Path, parts: Mapping[str, str]) -> Path:
        """Find the folder of these images, existing or not; images that replaced others have a folder with a number."""
        of_both = checksum(f"{parts['clip']} {parts['probe']}".encode())
        first = store / f"images-{of_both[:12]}"
        numbered = (first if number == 1 else first.with_name(f"{first.name}-{number}") for number in count(1))
        return next(
            path
            for path in numbered
            if not (path / MANIFEST).exists() or not other_parts(read_manifest(path, "images")[0]["parts"], parts)
        )

    def missing(self) -> set[int]:
        """Return the numbers of the shards that are missing or damaged; a warning names damaged files."""
        return set(self.folder.missing(self.COLUMNS))

    def write(self, shard: int, probe_keys: Sequence[str], batches: Sequence[Encoded]) -> None:
        """Write a shard.

        Args:
            shard: number of the shard.
            probe_keys: keys of all of its images in the probe, readable or not.
            batches: the shard's images, batch by batch.

        Raises:
            OSError: the shard cannot be written.
        """
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
    """Table of all images of a store: keys and labels are in memory, embeddings are read when asked for.

    Args:
        images: stored images, of which no shard is missing.

    Raises:
        DamagedFileError: a file is missing or damaged.
    """

    def __init__(self, images: StoredImages) -> None:
        self._folder = images.folder
        self.keys: list[str] = []
        """Keys of the readable images, in the order of the probe."""
        self.labels: list[str | None] = []
        """Labels of the readable images."""
        self.skipped: list[Skipped] = []
        """Images that could not be read."""
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

    @property
    def path(self) -> Path:
        """Folder of the images."""
        return self._folder.path

    def digest(self) -> str:
        """Return the digest of the checksums of all files: another text if anything of the images is another."""
        entries = sorted(self._folder.entries.items())
        return checksum("\n".join(entry.files.get(name, "") for _, entry in entries for name in StoredImages.COLUMNS))

    def rows(self, places: range) -> slice:
        """Return the rows, among the readable images, of the images at these places of the probe."""
        return slice(int(self._before[places.start]), int(self._before[places.stop]))

    def features(self, places: range) -> Tensor:
        """Return the embeddings, (n, d) float32, of the readable images at these places of the probe; (0, 0) for none.

        Raises:
            DamagedFileError: a file is missing or damaged.
        """
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
        """Read the embeddings of a shard; the last one is kept, as finer grids ask for it several times in a row."""
        if self._held is None or self._held[0] != shard:
            self._held = shard, load(self._folder.read(shard, "features"))["features"]
        return self._held[1]


class StoredActivations:
    """Stored activations of the layers of a network on the images of a probe.

    Args:
        folder: folder of shards that holds them.
    """

    def __init__(self, folder: ShardFolder) -> None:
        self.folder = folder

    @property
    def layers(self) -> list[str]:
        """Names of the layers, including those that are incomplete."""
        return list(self.folder.manifest.get("layers", []))

    @property
    def heads(self) -> list[str]:
        """Names of the layers that are classification heads, as far as that was recorded."""
        return [name for name, is_head in self.folder.manifest.get("heads", {}).items() if is_head]

    def missing(self, layers: Sequence[str]) -> dict[int, tuple[str, ...]]:
        """Return, by shard, which of these layers are missing or damaged; a warning names damaged files."""
        names = {_column(layer): layer for layer in layers}  # in the order of the layers
        missing = self.folder.missing(list(names))
        return {shard: tuple(names[column] for column in columns) for shard, columns in missing.items()}

    def write(self, shard: int, layers: Sequence[str], batches: Sequence[Encoded]) -> None:
        """Write some layers of a shard.

        Args:
            shard: number of the shard.
            layers: names of the layers.
            batches: activations on the shard's images, batch by batch.

        Raises:
            OSError: the shard cannot be written.
        """
        readable = [batch for batch in batches if batch.keys]
        keys = [key for batch in readable for key in batch.keys]
        if readable and not set(layers) <= self.folder.manifest.get("heads", {}).keys():
            # before the first shard is there, so that a pass that has nothing left to record need not find it out
            self.folder.update(heads={layer: layer in readable[0].heads for layer in layers})
        columns = {
            _column(layer): pack_activations(join([batch.activations[layer] for batch in readable])) for layer in layers
        }
        self.folder.write(shard, digest_of_keys(keys), columns)

    @staticmethod
    def columns(layers: Sequence[str]) -> set[str]:
        """Return the columns of the shard table that belong to these layers."""
        return {_column(layer) for layer in layers}

    def fits(self, shard: int, keys: Sequence[str]) -> bool:
        """Return whether a shard holds activations on exactly the images with these keys."""
        entry = self.folder.entries.get(shard)
        return entry is not None and entry.keys == digest_of_keys(keys)

    def read(self, shard: int, layer: str) -> Activations | None:
        """Read the activations of a layer on the readable images of a shard; None if no image is readable.

        Raises:
            DamagedFileError: the file is missing or damaged.
        """
        return unpack_activations(self.folder.read(shard, _column(layer)))


def _column(layer: str) -> str:
    """Return the column of a layer, which is the name of a folder; characters that paths cannot hold are quoted."""
    return f"layers/{quote(layer, safe='')}"
