"""A folder of shards, with a manifest that says what they are and how to tell that they are whole."""

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
    """A table of files: a row for each shard, a column (a folder) for each kind of content.

    While a recording goes on, each finished shard has its line of the table in a file of its own under ``shards``; at
    the end the lines move into the manifest. Several processes may write at once, of one team or of commands that know
    nothing of each other: a lock is held for as long as lines and manifest are read, changed and written, and none of
    them forgets what another has finished.
    """

    def __init__(self, path: Path, kind: str) -> None:
        """Open a folder that exists.

        Raises:
            FileNotFoundError: it has no manifest.
            ValueError: the manifest is of another version, of another kind of content, or damaged.
        """
        self.path, self._kind = path, kind
        self._parts: dict[str, Any] = {}
        self.refresh()
        self.grid = Grid(**self.manifest["grid"])

    @classmethod
    def at(cls, path: Path, kind: str, parts: Mapping[str, Any], grid: Grid, advice: str = "") -> ShardFolder:
        """The folder, made if it is not there.

        Args:
            path: of the folder.
            kind: of its content.
            parts: what the content depends on. Those that the folder lacks, as version 0.1.0 did not know them, are
                not compared; they are entered as soon as something else is written.
            grid: of a new folder; one that is there keeps its own.
            advice: what else to do than begin anew where the parts are others.

        Raises:
            ValueError: the folder's content depends on other parts; they are named.
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
        """Learn which shards are finished."""
        while not self._read():
            pass

    def _read(self) -> bool:
        """Read manifest and lines; False if another process moved lines into the manifest meanwhile."""
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
        """By shard, which of the columns are not there or damaged, of which a warning tells. Reads every file."""
        missing: dict[int, list[str]] = {}
        for shard in range(self.grid.shards):
            for column in columns:
                if not self._is_whole(shard, column):
                    missing.setdefault(shard, []).append(column)
        return missing

    def _is_whole(self, shard: int, column: str, warn: bool = True) -> bool:
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
        """Put files of a shard beside those it has, if these are of the same images, and enter them into the table.

        A file that another process has finished meanwhile, of the same images, stays.
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
        """The line of a shard as it is now; one without files if there is none. Only under the lock."""
        try:
            return Entry.of(json.loads(self._line(shard).read_bytes()))
        except FileNotFoundError:
            return entries_of(read_manifest(self.path, self._kind)[0]).get(shard, Entry(""))
        except (ValueError, RecursionError):
            return Entry("")

    def update(self, layers: Sequence[str] = (), **facts: Any) -> None:
        """Enter facts into the manifest, further layers, and the lines of the table that are files of their own.

        Nothing is written, so that the store may be on a read-only medium, if all of that is there already.
        """
        self.refresh()
        if not self._lines and self._updated(layers, facts) == self.manifest:
            return
        with locked(self.path):
            self.refresh()  # again: another process may have written before this one held the lock
            updated = self._updated(layers, facts)
            parts = {**self._parts, **self.manifest["parts"]}
            write_manifest(self.path, {**updated, "parts": parts, "shards": table(self.entries)})
            for path in self._lines:
                path.unlink(missing_ok=True)
            self.refresh()

    def _updated(self, layers: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
        """The manifest with these layers, if any, and facts."""
        known = self.manifest.get("layers", [])
        further = {"layers": list(dict.fromkeys([*known, *layers]))} if layers else {}
        return {**self.manifest, **facts, **further}

    def _file(self, shard: int, column: str) -> Path:
        return self.path / column / f"{shard:05d}{'.json' if column == 'keys' else '.safetensors'}"

    def _line(self, shard: int) -> Path:
        return self.path / "shards" / f"{shard:05d}.json"


def other_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which parts a content depends on have changed, for a message; empty if none has.

    A part of which only one of them tells cannot be compared.

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
    """Of the readable images of a shard."""
    return checksum("\0".join(keys).encode(errors="surrogatepass"))


def _short(value: object, longest: int = 80) -> str:
    """A part, for a message."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
