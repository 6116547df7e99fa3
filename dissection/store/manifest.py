"""Manifest of a folder of a store: its required content, and the checksum by which any change is noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lwta.dissection.recording.activations import POOLS
from lwta.dissection.store.checked_files import write_file
from lwta.support.digests import checksum
from lwta.support.version import __version__

SCHEMA = 2
MANIFEST = "manifest.json"
FIRST = ({"lwta": "0.1.0"},)
"""Versions that wrote a manifest without "written_by"."""
PARTS: dict[str, dict[str, type]] = {
    "network": {
        "weights": str,
        "architecture": str,
        "transform": str,
        "probe": str,
        "clip": str,
        "pool": str,
        "batch_size": int,
        "seed": int,
        "draws": int,
        "precision": str,
    },
    "images": {"clip": str, "probe": str},
}
"""Names and types of the parts that every manifest has, by kind of content.

Version 0.1.0 wrote no others; further parts are compared only where a manifest has them.
"""
FACTS: dict[str, Any] = {
    "layers": list,
    "clip_name": str | None,
    "probe_name": str,
    "skipped": list,
    "written_by": list,
    "heads": dict,
}
"""Names and types of the entries that a manifest may have besides its kind, parts, grid and shards.

"heads" says of layers whether they are the network's classification head. Stores of versions that did not write it say
nothing of their layers.
"""


@dataclass(frozen=True)
class Grid:
    """Grid by which the images of a probe are cut into batches, and these into shards."""

    images: int
    """Number of images, N, including those that cannot be read."""
    batch_size: int
    """Number of images in a batch."""
    batches: int
    """Number of batches in each shard but the last."""

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // (self.batch_size * self.batches))

    def images_of(self, shard: int) -> range:
        """Return the places in the probe of the images of a shard."""
        size = self.batch_size * self.batches
        return range(shard * size, min((shard + 1) * size, self.images))

    def batches_of(self, shard: int) -> range:
        """Return the numbers of the batches of a shard."""
        return range(shard * self.batches, min((shard + 1) * self.batches, -(-self.images // self.batch_size)))


@dataclass(frozen=True)
class Entry:
    """Line of the shard table, which describes one shard."""

    keys: str
    """Digest of the keys of the shard's readable images."""
    files: dict[str, str] = field(default_factory=dict)
    """Checksum of the shard's file in each column."""

    @staticmethod
    def of(line: Any) -> Entry:
        """Return the entry that a line of JSON stands for.

        Raises:
            ValueError: the line does not stand for an entry.
        """
        _require(isinstance(line, dict) and line.keys() == {"keys", "files"}, "a line is no 'keys' and 'files'")
        files = line["files"]
        _require(isinstance(line["keys"], str) and isinstance(files, dict), "a line's keys or files")
        _require(all(isinstance(value, str) for value in files.values()), "a file's checksum is no text")
        return Entry(line["keys"], files)


def read_manifest(path: Path, kind: str) -> tuple[dict[str, Any], bytes]:
    """Read and check the manifest of a folder; return it with its bytes.

    A manifest of version 0.1.0 has no checksum; only its structure is checked.

    Args:
        path: the folder.
        kind: kind of content that the folder should have, "network" or "images".

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: the manifest is of another version or another kind of content, or damaged.
    """
    try:
        data = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"store: {path} has no {MANIFEST}; nothing was stored there") from None
    try:
        manifest = json.loads(data)
        _require(isinstance(manifest, dict) and _is_number(manifest.get("schema")), "no number 'schema'")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if manifest["schema"] != SCHEMA:
        raise ValueError(
            f"store: {path} has version {manifest['schema']} of the format, this library reads {SCHEMA}; "
            f"{begin_anew(path)}"
        )
    try:
        _check(manifest, kind)
    except ValueError as error:
        raise _damaged(path, error) from None
    manifest.setdefault("written_by", FIRST)
    return manifest, data


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a folder, with its checksum and the versions that wrote it.

    Raises:
        OSError: the manifest cannot be written; the one before stays.
    """
    written_by = list(manifest.get("written_by", []))
    if versions() not in written_by:
        written_by.append(versions())
    content = {"schema": SCHEMA, **manifest, "written_by": written_by}
    content.pop("checksum", None)
    write_file(path / MANIFEST, as_json({**content, "checksum": checksum(as_json(content))}))


def versions() -> dict[str, str]:
    """Return the versions of the packages on which draws and activations may depend."""
    return {"lwta": __version__, "torch": str(torch.__version__)}


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return content as JSON in the one form that the store writes, so that equal contents have equal checksums."""
    return json.dumps(content, indent=1).encode()


def begin_anew(path: Path) -> str:
    """Return the advice to remove the folder and to record it again."""
    return f"remove the folder {path} to record it anew"


def table(entries: Mapping[int, Entry]) -> dict[str, Any]:
    """Return the shard table of a manifest as JSON can hold it."""
    return {f"{shard:05d}": asdict(entry) for shard, entry in sorted(entries.items())}


def entries_of(manifest: Mapping[str, Any]) -> dict[int, Entry]:
    """Return the lines of the shard table of a checked manifest, by shard."""
    return {int(shard): Entry.of(line) for shard, line in manifest["shards"].items()}


def _check(manifest: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError, with the reason, unless the manifest is one that `write_manifest` wrote for this kind."""
    written = manifest.get("checksum")
    content = {name: value for name, value in manifest.items() if name != "checksum"}
    _require(written is not None or "written_by" not in manifest, "no checksum")
    _require(written is None or written == checksum(as_json(content)), "not as its checksum says")
    unknown = content.keys() - {"schema", "kind", "parts", "grid", "shards"} - FACTS.keys()
    _require(not unknown, f"unknown: {sorted(unknown)}")
    _require(manifest.get("kind") == kind, f"kind must be {kind!r}")
    for name in ("parts", "grid", "shards"):
        _require(isinstance(manifest.get(name), dict), f"no {name}")
    parts, grid, shards = manifest["parts"], manifest["grid"], manifest["shards"]
    _check_parts(parts, kind)
    _check_grid(grid, str(parts["probe"]))
    for shard, line in shards.items():
        _require(re.fullmatch("[0-9]{5,9}", shard) is not None and int(shard) < Grid(**grid).shards, f"shard {shard!r}")
        Entry.of(line)
    for name in FACTS.keys() & content.keys():
        _require(isinstance(content[name], FACTS[name]), name)
    _require(all(isinstance(layer, str) for layer in content.get("layers", [])), "layers")
    _require(all(isinstance(is_head, bool) for is_head in content.get("heads", {}).values()), "heads")


def _check_parts(parts: dict[str, Any], kind: str) -> None:
    for name, value in parts.items():
        expected = PARTS[kind].get(name, str)
        _require(_is_number(value) if expected is int else isinstance(value, expected), f"part {name!r}")
    missing = PARTS[kind].keys() - parts.keys()
    _require(not missing, f"no parts {sorted(missing)}")
    _require(parts.get("pool", "auto") in POOLS, "part 'pool'")


def _check_grid(grid: dict[str, Any], probe: str) -> None:
    names = {"images", "batch_size", "batches"}
    _require(grid.keys() == names and all(map(_is_number, grid.values())), "grid")
    _require(min(grid["batch_size"], grid["batches"]) >= 1 and grid["images"] >= 0, "grid out of range")
    _require(probe.startswith(f"{grid['images']} images, "), "grid of another number of images than the probe")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _damaged(path: Path, reason: Exception) -> ValueError:
    return ValueError(f"store: {path / MANIFEST} is damaged; {begin_anew(path)} (what is wrong: {reason})")
