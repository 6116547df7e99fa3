"""Commands that know nothing of each other write to one store at once, are killed, or may not write at all."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lwta.dissection.store import locking
from lwta.dissection.store.contents import StoredActivations
from lwta.dissection.store.folder import ShardFolder
from lwta.support.files import TEMPORARY, remove_abandoned, temporary_file
from tests.support.processes import processes
from tests.support.stores import COUNT, SlowTransform, World, dissect_apart, same
from tests.support.worlds import ColourNetwork

NETWORK = "ColourNetwork"


def apart(folder: Path, commands: list[dict[str, Any]]) -> None:
    """Run commands at once, each in a process of its own."""
    gate = processes.Barrier(len(commands))
    members = [
        processes.Process(
            target=dissect_apart, args=(folder / "store", folder / f"log-{i}"), kwargs={**one, "gate": gate}
        )
        for i, one in enumerate(commands)
    ]
    for process in members:
        process.start()
    for process in members:
        process.join(120)
        assert process.exitcode == 0


COMMANDS = {
    "other layers": [{"layers": ["act"]}, {"layers": ["head"]}],
    "the same layers": [{"layers": ["act", "head"]}, {"layers": ["act", "head"]}],
    "some the same": [{"layers": ["act", "head"]}, {"layers": ["head", "flat"]}],
    "another name": [{"layers": ["act", "head"]}, {"layers": ["flat"], "name": "other"}],
}


@pytest.mark.slow
@pytest.mark.parametrize("commands", [name for name in COMMANDS for _ in range(3 if name == "other layers" else 1)])
def test_commands_at_once_forget_nothing(tmp_path: Path, commands: str) -> None:
    apart(tmp_path, COMMANDS[commands])
    alone = World(ColourNetwork("sample")).dissect(layers=["act", "head", "flat"], batch_size=2)
    named = {one.get("name") or NETWORK for one in COMMANDS[commands]}
    for i, one in enumerate(COMMANDS[commands]):
        assert (tmp_path / f"log-{i}").read_text() == ""  # no warning: nothing was damaged or missing
        scores = torch.load(tmp_path / f"log-{i}.pt")
        assert all(torch.equal(scores[layer], alone.similarities(layer)) for layer in one["layers"])
    layers = {layer for one in COMMANDS[commands] for layer in one["layers"]}
    for name in named:
        folder = ShardFolder(tmp_path / "store" / name, "network")
        stored = set(folder.manifest["layers"])
        assert len(named) > 1 or stored == layers
        assert all(entry.files.keys() == StoredActivations.columns(list(stored)) for entry in folder.entries.values())
        assert len(folder.entries) == folder.grid.shards
        assert not list((folder.path / "shards").iterdir())
    world = World(ColourNetwork("sample"))
    transform = SlowTransform(tmp_path / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in named:
            wanted = ShardFolder(tmp_path / "store" / name, "network").manifest["layers"]
            world.dissect(tmp_path / "store", wanted, batch_size=2, transform=transform, name=name)
            world.open(tmp_path / "store", name=name)
    assert world.calls() == (0, 0)


def test_a_line_that_another_process_moves_is_found_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    monkeypatch.setattr(ShardFolder, "update", lambda *_, **__: None)  # the lines stay where they are
    world.dissect(tmp_path)
    monkeypatch.undo()
    path = next(tmp_path.glob(f"{NETWORK}/shards/00002.json"))
    read, moves = Path.read_bytes, []

    def moving(self: Path) -> bytes:
        if self == path and not moves:
            moves.append(self)
            ShardFolder(tmp_path / NETWORK, "network").update(["act", "head"])
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", moving)
    folder = ShardFolder(tmp_path / NETWORK, "network")
    assert moves
    assert not path.exists()
    assert sorted(folder.entries) == list(range(folder.grid.shards))


def test_what_another_process_entered_meanwhile_stays(tmp_path: Path) -> None:
    World().dissect(tmp_path, "act")
    mine, other = (ShardFolder(tmp_path / NETWORK, "network") for _ in range(2))
    keys = mine.entries[0].keys
    other.write(0, keys, {"layers/other": b"other"})
    mine.write(0, keys, {"layers/mine": b"mine", "layers/other": b"not the first"})
    other.update(["other"], probe_name="a")
    mine.update(["mine"])
    found = ShardFolder(tmp_path / NETWORK, "network")
    assert found.entries[0].files.keys() == {"layers/act", "layers/mine", "layers/other"}
    assert found.read(0, "layers/other") == b"other"
    assert found.manifest["layers"] == ["act", "other", "mine"]
    assert found.manifest["probe_name"] == "a"


def snapshot(folder: Path) -> dict[Path, tuple[int, int, bytes | None]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def test_a_complete_store_on_a_read_only_medium_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.clip.name = "tiny"  # type: ignore[attr-defined]
    first = world.dissect(tmp_path)
    (tmp_path / NETWORK / f".act.{'0' * 32}.tmp").write_bytes(b"of a killed run")
    before, opened = snapshot(tmp_path), os.open

    def read_only(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and Path(path).is_relative_to(tmp_path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "write_bytes", lambda path, _: pytest.fail(f"{path} is written"))
    monkeypatch.setattr(Path, "mkdir", lambda path, **_: pytest.fail(f"{path} is made"))
    world.calls()
    assert same(first, world.dissect(tmp_path))
    assert same(world.dissect(tmp_path, "head", similarity="cos"), World().dissect(layers="head", similarity="cos"))
    assert same(first, world.open(tmp_path))
    assert world.calls() == (0, 0)
    with pytest.raises(OSError, match="Read-only file system"):
        world.dissect(tmp_path, "flat")
    monkeypatch.undo()
    assert snapshot(tmp_path) == before


def test_a_file_system_without_locks_is_told_of_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    world = World()
    with pytest.warns(UserWarning, match=r"the file system of .* has no locks \(No locks available\); it is not safe"):
        stored = world.dissect(tmp_path)
    assert same(stored, world.dissect())
    old, young = (tmp_path / f".{name}.{'0' * 32}.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path)
    assert [old.exists(), young.exists()] == [False, True]


def hold(folder: Path, gate: Any) -> None:
    with locking.locked(folder), temporary_file(folder / "data"):
        gate.wait()
        time.sleep(60)


@pytest.mark.slow
def test_the_kernel_releases_what_a_killed_process_held(tmp_path: Path) -> None:
    """Its temporary file stays as long as it lives, and is removed by the next command at once when it is killed."""
    World().dissect(tmp_path)
    folder, gate = tmp_path / NETWORK, processes.Barrier(2)
    process = processes.Process(target=hold, args=(folder, gate))
    process.start()
    gate.wait()
    World().dissect(tmp_path)
    assert len(list(folder.rglob(TEMPORARY))) == 1
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(folder.rglob(TEMPORARY))) == 1
    World().dissect(tmp_path, "flat")  # takes the lock
    assert not list(folder.rglob(TEMPORARY))


def test_a_limit_on_the_size_of_files_is_named(tmp_path: Path) -> None:
    world, before = World(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"a limit on the size of files \(ulimit -f\) was met in .*/ColourNetwork; \d of"
        ):
            world.dissect(tmp_path, shard_images=COUNT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(world.dissect(tmp_path), world.dissect())
