"""A folder of shards, with a manifest that says what they are and how to tell that they are whole."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lwta.dissection.store.checked_files import DamagedFileError, checksum, read_file, remove_abandoned, write_file

SCHEMA = 2
MANIFEST = "manifest.json"
RESUME = "dissect the network again with this store, and what is missing is recorded"


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


class ShardFolder:
    """A table of files: a row for each shard, a column (a folder) for each kind of content.

    While a recording goes on, each finished shard has its line of the table in a file of its own under ``shards``, so
    that several processes can write at once and none of them can harm what another wrote; at the end the lines move
    into the manifest.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder that exists.

        Raises:
            FileNotFoundError: it has no manifest.
            ValueError: the manifest is of another version or unreadable.
        """
        self.path = path
        try:
            self.manifest: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
            schema = self.manifest["schema"]
        except FileNotFoundError:
            raise FileNotFoundError(f"store: {path} has no {MANIFEST}; nothing was stored there") from None
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"store: {path / MANIFEST} is damaged; {begin_anew(path)}") from None
        if schema != SCHEMA:
            raise ValueError(
                f"store: {path} has version {schema} of the format, this library reads {SCHEMA}; {begin_anew(path)}"
            )
        self.grid = Grid(**self.manifest["grid"])
        self.entries: dict[int, Entry] = {}
        self.refresh()

    @classmethod
    def at(cls, path: Path, kind: str, parts: Mapping[str, Any], grid: Grid, advice: str = "") -> ShardFolder:
        """The folder, made if it is not there.

        Args:
            path: of the folder.
            kind: of its content.
            parts: what the content depends on.
            grid: of a new folder; one that is there keeps its own.
            advice: what else to do than begin anew where the parts are others.

        Raises:
            ValueError: the folder's content depends on other parts; they are named.
        """
        if not (path / MANIFEST).exists():
            _write_manifest(path, {"kind": kind, "parts": dict(parts), "grid": asdict(grid), "shards": {}})
        folder = cls(path)
        other = other_parts(folder.manifest["parts"], parts)
        if other:
            raise ValueError(f"store: {path} was recorded with {other}; {advice}{begin_anew(path)}")
        remove_abandoned(path)
        return folder

    def refresh(self) -> None:
        """Learn which shards are finished."""
        manifest = json.loads((self.path / MANIFEST).read_bytes())
        self.entries = {int(shard): Entry(**entry) for shard, entry in manifest["shards"].items()}
        for path in sorted((self.path / "shards").glob("*.json")):
            try:
                self.entries[int(path.stem)] = Entry(**json.loads(path.read_bytes()))
            except (ValueError, TypeError):
                warnings.warn(f"store: {path} is damaged; its shard will be recorded again", stacklevel=2)

    def missing(self, columns: Sequence[str]) -> dict[int, list[str]]:
        """By shard, which of the columns are not there or damaged, of which a warning tells. Reads every file."""
        missing: dict[int, list[str]] = {}
        for shard in range(self.grid.shards):
            for column in columns:
                if not self._is_whole(shard, column):
                    missing.setdefault(shard, []).append(column)
        return missing

    def _is_whole(self, shard: int, column: str) -> bool:
        entry = self.entries.get(shard)
        if entry is None or column not in entry.files:
            return False
        try:
            read_file(self._file(shard, column), entry.files[column])
        except DamagedFileError as error:
            warnings.warn(f"store: {error}; its shard will be recorded again", stacklevel=2)
            return False
        return True

    def read(self, shard: int, column: str) -> bytes:
        """Content of a file.

        Raises:
            DamagedFileError: it is not there, or not what was written.
        """
        entry = self.entries.get(shard)
        if entry is None or column not in entry.files:
            raise DamagedFileError(f"store: {self._file(shard, column)} is not complete; {RESUME}")
        try:
            return read_file(self._file(shard, column), entry.files[column])
        except DamagedFileError as error:
            raise DamagedFileError(f"store: {error}; {RESUME}") from None

    def write(self, shard: int, keys: str, columns: Mapping[str, bytes]) -> None:
        """Put files of a shard beside those it has, if these are of the same images, and enter them into the table."""
        before = self.entries.get(shard)
        files = dict(before.files) if before is not None and before.keys == keys else {}
        for column, data in columns.items():
            files[column] = write_file(self._file(shard, column), data)
        entry = Entry(keys, files)
        write_file(self._line(shard), _as_json(asdict(entry)))
        self.entries[shard] = entry

    def update(self, **facts: Any) -> None:
        """Enter facts into the manifest, and the lines of the table that are files of their own."""
        self.refresh()
        lines = {f"{shard:05d}": asdict(entry) for shard, entry in sorted(self.entries.items())}
        self.manifest = {**self.manifest, **facts, "shards": lines}
        _write_manifest(self.path, self.manifest)
        for shard in self.entries:
            self._line(shard).unlink(missing_ok=True)

    def _file(self, shard: int, column: str) -> Path:
        return self.path / column / f"{shard:05d}{'.json' if column == 'keys' else '.safetensors'}"

    def _line(self, shard: int) -> Path:
        return self.path / "shards" / f"{shard:05d}.json"


def other_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which parts a content depends on have changed, for a message; empty if none has.

    Example:
        >>> other_parts({"layer": "act", "pool": "mean"}, {"layer": "fc", "pool": "mean"})
        'another layer (stored: act; now: fc)'
    """
    return ", ".join(
        f"another {part} (stored: {_short(before.get(part))}; now: {_short(now.get(part))})"
        for part in dict.fromkeys([*before, *now])
        if before.get(part) != now.get(part)
    )


def begin_anew(path: Path) -> str:
    """The last resort."""
    return f"remove the folder {path} to record it anew"


def digest_of_keys(keys: Iterable[str]) -> str:
    """Of the readable images of a shard."""
    return checksum("\0".join(keys).encode(errors="surrogatepass"))


def _write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    write_file(path / MANIFEST, _as_json({"schema": SCHEMA, **manifest}))


def _as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()


def _short(value: object, longest: int = 80) -> str:
    """A part, for a message."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
