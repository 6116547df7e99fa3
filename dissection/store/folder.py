"""Folder of shards, with a manifest that says what they depend on and holds their checksums."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lwta.dissection.store.checked_files import (
    DamagedFileError,
    prepared_file,
    publish,
    read_file,
    write_file,
)
from lwta.dissection.store.locking import locked
from lwta.dissection.store.manifest import (
    MANIFEST,
    Entry,
    Grid,
    as_json,
    begin_anew,
    entries_of,
    read_manifest,
    table,
    write_manifest,
)
from lwta.support.digests import checksum
from lwta.support.files import remove_abandoned

RESUME = "dissect the network again with this store, and what is missing is recorded"


class ShardFolder:
    """Folder of shards: a table of files with a row for each shard and a column (a folder) for each kind of content.

    While a recording goes on, each finished shard has its line of the table in a file of its own under ``shards``; at
    the end the lines move into the manifest. Several processes may write at once, whether they share the work or know
    nothing of each other: each holds a lock while it reads, changes and writes lines and manifest, so that none
    overwrites what another has finished.

    Attributes:
        path: the folder.
        manifest: the manifest as it was when it was last read.
        entries: lines of the table, by shard, as they were when they were last read.
        grid: how the images are cut into shards.
    """

    def __init__(self, path: Path, kind: str) -> None:
        """Open an existing folder.

        Args:
            path: the folder.
            kind: kind of its content, "network" or "images".

        Raises:
            FileNotFoundError: the folder has no manifest.
            ValueError: the manifest is of another version, of another kind of content, or damaged.
        """
        self.path, self._kind = path, kind
        self._parts: dict[str, Any] = {}
        self.refresh()
        self.grid = Grid(**self.manifest["grid"])

    @classmethod
    def at(cls, path: Path, kind: str, parts: Mapping[str, Any], grid: Grid, advice: str = "") -> ShardFolder:
        """Open a folder, created if it does not exist.

        Args:
            path: the folder.
            kind: kind of its content, "network" or "images".
            parts: everything that the content depends on. Parts that the folder lacks, as version 0.1.0 did not write
                them, are not compared; they are entered as soon as something else is written.
            grid: grid of a new folder; an existing one keeps its own.
            advice: alternatives to recording again, for the message where the parts differ.

        Raises:
            ValueError: the folder's content depends on other parts, which are named; or the manifest is of another
                version or another kind of content, or damaged.
            OSError: the folder cannot be created.
        """
        if not (path / MANIFEST).exists():
            path.mkdir(parents=True, exist_ok=True)
            with locked(path):
                if not (path / MANIFEST).exists():
                    write_manifest(path, {"kind": kind, "parts": dict(parts), "grid": asdict(grid), "shards": {}})
        folder = cls(path, kind)
        other = other_parts(folder.manifest["parts"], parts)
        if other:
            raise ValueError(f"store: {path} was recorded with {other}; {advice}{begin_anew(path)}")
        folder._parts = dict(parts)
        remove_abandoned(path)
        return folder

    def refresh(self) -> None:
        """Read again which shards are finished.

        Raises:
            FileNotFoundError: the folder has no manifest.
            ValueError: the manifest is damaged.

        Warns:
            UserWarning: the line of a shard is damaged; the shard counts as missing.
        """
        while not self._read():
            pass

    def _read(self) -> bool:
        """Read manifest and lines; return False if another process moved lines into the manifest meanwhile."""
        self.manifest, data = read_manifest(self.path, self._kind)
        self.entries = entries_of(self.manifest)
        self._lines = sorted((self.path / "shards").glob("*.json"))
        shards, damaged = Grid(**self.manifest["grid"]).shards, []
        for path in self._lines:
            try:
                shard, entry = int(path.stem), Entry.of(json.loads(path.read_bytes()))
            except FileNotFoundError:
                return False
            except (ValueError, RecursionError):
                damaged.append(path)
                continue
            if 0 <= shard < shards:
                self.entries[shard] = entry
        if (self.path / MANIFEST).read_bytes() != data:
            return False
        for path in damaged:
            warnings.warn(f"store: {path} is damaged; its shard will be recorded again", stacklevel=4)
        return True

    def missing(self, columns: Sequence[str]) -> dict[int, list[str]]:
        """Return, by shard, which of these columns are missing or damaged. Every file is read.

        Warns:
            UserWarning: a file is damaged.
        """
        missing: dict[int, list[str]] = {}
        for shard in range(self.grid.shards):
            for column in columns:
                if not self._is_whole(shard, column):
                    missing.setdefault(shard, []).append(column)
        return missing

    def _is_whole(self, shard: int, column: str, warn: bool = True) -> bool:
        """Return whether a file exists and is what was written; warn if it is damaged."""
        entry = self.entries.get(shard)
        if entry is None or column not in entry.files:
            return False
        try:
            read_file(self._file(shard, column), entry.files[column])
        except DamagedFileError as error:
            if warn:
                warnings.warn(f"store: {error}; its shard will be recorded again", stacklevel=2)
            return False
        return True

    def read(self, shard: int, column: str) -> bytes:
        """Read the file of a shard in a column.

        Raises:
            DamagedFileError: the file is missing, or not what was written.
        """
        entry = self.entries.get(shard)
        if entry is None or column not in entry.files:
            raise DamagedFileError(f"store: {self._file(shard, column)} is not complete; {RESUME}")
        try:
            return read_file(self._file(shard, column), entry.files[column])
        except DamagedFileError as error:
            raise DamagedFileError(f"store: {error}; {RESUME}") from None

    def write(self, shard: int, keys: str, columns: Mapping[str, bytes]) -> None:
        """Write files of a shard, and enter them into the table.

        Files that the shard has already stay if they are of the same images, also those that another process has
        finished meanwhile; if they are of other images, they are removed from the table.

        Args:
            shard: number of the shard.
            keys: digest of the keys of its readable images.
            columns: content of the files, by column.

        Raises:
            OSError: a file cannot be written.
        """
        with ExitStack() as stack:
            prepared = {
                column: stack.enter_context(prepared_file(self._file(shard, column), data))
                for column, data in columns.items()
            }
            with locked(self.path):
                self.entries[shard] = self._entry(shard)
                if self.entries[shard].keys != keys:
                    self.entries[shard] = Entry(keys)
                for column, temporary in prepared.items():
                    if not self._is_whole(shard, column, warn=False):
                        publish(temporary, self._file(shard, column))
                        self.entries[shard].files[column] = checksum(columns[column])
                write_file(self._line(shard), as_json(asdict(self.entries[shard])))

    def _entry(self, shard: int) -> Entry:
        """Read the line of a shard, or return one without files if there is none; the lock must be held."""
        try:
            return Entry.of(json.loads(self._line(shard).read_bytes()))
        except FileNotFoundError:
            return entries_of(read_manifest(self.path, self._kind)[0]).get(shard, Entry(""))
        except (ValueError, RecursionError):
            return Entry("")

    def update(self, layers: Sequence[str] = (), heads: Mapping[str, bool] | None = None, **facts: Any) -> None:
        """Enter facts, further layers, and the lines of the table that are files of their own into the manifest.

        If the manifest has all of that already, nothing is written, so that the store may be on a read-only medium.

        Args:
            layers: names of layers.
            heads: whether layers are classification heads; what the manifest says of a layer already stays, so that
                all processes agree on it.
            **facts: other entries of the manifest, among those of `FACTS`.

        Raises:
            OSError: the manifest cannot be written.
        """
        self.refresh()
        if not self._lines and self._updated(layers, heads or {}, facts) == self.manifest:
            return
        with locked(self.path):
            self.refresh()  # again: another process may have written before this one held the lock
            updated = self._updated(layers, heads or {}, facts)
            parts = {**self._parts, **self.manifest["parts"]}
            write_manifest(self.path, {**updated, "parts": parts, "shards": table(self.entries)})
            for path in self._lines:
                path.unlink(missing_ok=True)
            self.refresh()

    def _updated(self, layers: Sequence[str], heads: Mapping[str, bool], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the manifest with these layers, heads and facts entered."""
        further: dict[str, Any] = {}
        if layers:
            further["layers"] = list(dict.fromkeys([*self.manifest.get("layers", []), *layers]))
        if heads:
            known = self.manifest.get("heads", {})
            further["heads"] = {**known, **{name: heads[name] for name in heads if name not in known}}
        return {**self.manifest, **facts, **further}

    def _file(self, shard: int, column: str) -> Path:
        return self.path / column / f"{shard:05d}{'.json' if column == 'keys' else '.safetensors'}"

    def _line(self, shard: int) -> Path:
        return self.path / "shards" / f"{shard:05d}.json"


def other_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the names of the parts that differ, with both values, for a message; empty if none does.

    A part that only one of the two mappings has is not compared.

    Args:
        before: parts that a content depends on.
        now: the same parts at present.

    Example:
        >>> other_parts({"layer": "act", "pool": "mean"}, {"layer": "fc", "pool": "mean"})
        'another layer (stored: act; now: fc)'
    """
    return ", ".join(
        f"another {part} (stored: {_short(before[part])}; now: {_short(now[part])})"
        for part in before
        if part in now and before[part] != now[part]
    )


def digest_of_keys(keys: Iterable[str]) -> str:
    """Return the digest of the keys of a shard's readable images."""
    return checksum("\0".join(keys))


def _short(value: object, longest: int = 80) -> str:
    """Return a part as one line of at most ``longest`` characters, for a message."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
