"""The manifest of a folder of a store: what must be in it, and how a changed letter is noticed."""

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
"""What a manifest without "written_by" was written by."""
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
"""By kind of content, the parts that every manifest has; version 0.1.0 had no others, and these may not be compared."""
FACTS: dict[str, Any] = {
    "layers": list,
    "clip_name": str | None,
    "probe_name": str,
    "skipped": list,
    "written_by": list,
}
"""What a manifest may hold besides its kind, parts, grid and shards."""


@dataclass(frozen=True)
class Grid:
    """How the images of a probe are cut into batches, and these into shards."""

    images: int
    """N, with those that cannot be read."""
    batch_size: int
    batches: int
    """In each shard but the last."""

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.images // (self.batch_size * self.batches))

    def images_of(self, shard: int) -> range:
        """Places in the probe of the images of a shard."""
        size = self.batch_size * self.batches
        return range(shard * size, min((shard + 1) * size, self.images))

    def batches_of(self, shard: int) -> range:
        """Numbers of the batches of a shard."""
        return range(shard * self.batches, min((shard + 1) * self.batches, -(-self.images // self.batch_size)))


@dataclass(frozen=True)
class Entry:
    """A line of the shard table."""

    keys: str
    """Digest of the keys of the readable images."""
    files: dict[str, str] = field(default_factory=dict)
    """Checksum by column."""

    @staticmethod
    def of(line: Any) -> Entry:
        """The entry that a line of JSON stands for; ValueError if it stands for none."""
        _require(isinstance(line, dict) and line.keys() == {"keys", "files"}, "a line is no 'keys' and 'files'")
        files = line["files"]
        _require(isinstance(line["keys"], str) and isinstance(files, dict), "a line's keys or files")
        _require(all(isinstance(value, str) for value in files.values()), "a file's checksum is no text")
        return Entry(line["keys"], files)


def read_manifest(path: Path, kind: str) -> tuple[dict[str, Any], bytes]:
    """The manifest of a folder and its bytes; one of version 0.1.0 has no checksum and is only looked through.

    Args:
        path: of the folder.
        kind: "network" or "images", what the folder should be.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another version, or damaged.
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
    """Write the manifest of a folder, with its checksum, and with the versions that wrote it."""
    written_by = list(manifest.get("written_by", []))
    if versions() not in written_by:
        written_by.append(versions())
    content = {"schema": SCHEMA, **manifest, "written_by": written_by}
    content.pop("checksum", None)
    write_file(path / MANIFEST, as_json({**content, "checksum": checksum(as_json(content))}))


def versions() -> dict[str, str]:
    """The versions on which draws and activations may depend."""
    return {"lwta": __version__, "torch": str(torch.__version__)}


def as_json(content: Mapping[str, Any]) -> bytes:
    """The one way in which the store writes JSON, so that a checksum of the content is one of the bytes."""
    return json.dumps(content, indent=1).encode()


def begin_anew(path: Path) -> str:
    """The last resort."""
    return f"remove the folder {path} to record it anew"


def table(entries: Mapping[int, Entry]) -> dict[str, Any]:
    """The shard table of a manifest."""
    return {f"{shard:05d}": asdict(entry) for shard, entry in sorted(entries.items())}


def entries_of(manifest: Mapping[str, Any]) -> dict[int, Entry]:
    """By shard, the lines of the shard table of a manifest that was checked."""
    return {int(shard): Entry.of(line) for shard, line in manifest["shards"].items()}


def _check(manifest: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError, with the reason, unless the manifest is what `write_manifest` wrote, of this kind."""
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
