"""The pass over the probe that fills a store, from where the last one stopped."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from lwta.dissection.recording.one_pass import Encoded, Pass, encode
from lwta.dissection.recording.precision import own_type, resolved
from lwta.dissection.recording.recording import warn_of_skipped
from lwta.dissection.store import fingerprint
from lwta.dissection.store.checked_files import FULL, StoreFullError
from lwta.dissection.store.code import fingerprint_code
from lwta.dissection.store.contents import ImageTable, StoredActivations, StoredImages, network_folder
from lwta.dissection.store.folder import ShardFolder
from lwta.dissection.store.manifest import MANIFEST, Grid, begin_anew, read_manifest, versions
from lwta.dissection.store.stored import StoredRecording
from lwta.dissection.words.encoder import Encoder
from lwta.support.processes import Group

ELSEWHERE = "give the network another name= (then it gets a folder of its own), another store=, or "


@dataclass(frozen=True)
class Job:
    """A shard of which something is missing."""

    shard: int
    layers: tuple[str, ...]
    images: bool
    """Whether its embeddings are missing."""


def depends_on(work: Pass, contents: Mapping[str, str]) -> dict[str, str | int]:
    """All that the activations depend on, but for the layer; ``contents`` of the images as by `fingerprint_images`."""
    return {
        **network_parts(work.model),
        "transform": fingerprint.describe(work.transform),
        "probe": fingerprint.fingerprint_probe(work.probe),
        "clip": work.clip.fingerprint,
        "pool": work.pool,
        "batch_size": work.batch_size,
        "seed": work.seed,
        "draws": work.draws,
        "precision": resolved(work.precision, work.place, own_type(work.model)),
        **contents,
    }


def network_parts(model: nn.Module) -> dict[str, str]:
    """What the activations depend on that belongs to the network."""
    return {
        "weights": fingerprint.fingerprint_weights(model),
        "architecture": fingerprint.fingerprint_architecture(model),
        "code": fingerprint_code(model),
    }


def known_as(clip: Encoder, recorded: str) -> str:
    """The fingerprint of an encoder as a store has it: that of version 0.1.0, if it has this one."""
    return recorded if recorded == getattr(clip, "legacy_fingerprint", None) else clip.fingerprint


def reduced(work: Pass, job: Job, batch_size: int) -> Pass:
    """The pass that gives what the job lacks and nothing else."""
    changes: dict[str, Any] = {"batch_size": batch_size, "device": work.place, "layers": job.layers}
    if not job.images:
        changes["clip"] = _NoClip()
    if not job.layers:
        idle = nn.Sequential(nn.Identity())
        changes |= {"model": idle, "layers": ["0"], "transform": _nothing, "pool": "mean", "draws": 1, "compile": False}
    return replace(work, **changes)


def _nothing(image: Image.Image) -> Tensor:
    """The input of a network that is not there."""
    return torch.zeros(1)


class _NoClip:
    """Stands where embeddings are there already: no image is preprocessed for it."""

    fingerprint = ""
    preprocess: Callable[[Image.Image], Tensor] | None = None

    def check_keys(self, keys: Sequence[str]) -> None:
        """Any key will do."""

    def to(self, device: torch.device) -> None:
        """Nothing is computed, so nothing moves."""

    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """(n, 0)."""
        return torch.empty(len(keys), 0)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(M, 0)."""
        return torch.empty(len(texts), 0)


def fill_store(
    work: Pass, store: Path, *, name: str | None, shard_images: int, progress: bool, group: Group
) -> StoredRecording:
    """Fill the store with what it lacks of a recording, together with the other processes of the group.

    Args:
        work: the pass that gives what is missing.
        store: folder.
        name: of the network in the store; None for the name of its class.
        shard_images: images in a shard, if the store is new.
        progress: show a bar.
        group: of processes that work on it.

    Returns:
        The whole recording.

    Raises:
        ValueError: ``shard_images`` is below 1, no image is readable, or the store was recorded otherwise.
        StoreFullError: there is no space left.

    Warns:
        UserWarning: images were skipped, or a file of the store was damaged and is recorded again.
    """
    if shard_images < 1:
        raise ValueError(f"shard_images must be at least 1, got {shard_images}")
    recording = Filler(group, store, name or type(work.model).__name__, work, shard_images, progress).fill()
    if group.rank == 0 or not recording.keys:
        warn_of_skipped(work.probe.name, len(recording.keys), recording.skipped)
    return recording


class Filler:
    """Fills the gaps of a store, as one of a group of processes.

    Args:
        group: of processes that work on it together.
        store: folder.
        name: of the network's folder in it.
        work: the pass that gives what is missing.
        shard_images: images in a shard, if the store is new.
        progress: show a bar.
    """

    def __init__(self, group: Group, store: Path, name: str, work: Pass, shard_images: int, progress: bool) -> None:
        self._group, self._work = group, work
        self._progress = progress and group.rank == 0
        contents = group.lead(lambda: fingerprint.fingerprint_images(work.probe))
        parts = depends_on(work, contents)
        keys = work.probe.keys or ()
        grid = Grid(len(keys), work.batch_size, max(shard_images // work.batch_size, 1))
        path = network_folder(store, name)
        if (path / MANIFEST).exists():
            recorded = read_manifest(path, "network")[0]["parts"]["clip"]
            parts["clip"] = known_as(work.clip, recorded)
        embedded_by, probe = fingerprint.embedder(parts), str(parts["probe"])

        def prepare() -> None:
            with telling_full(path, grid.shards, work.layers):
                folder = ShardFolder.at(path, "network", parts, grid, ELSEWHERE)
                if not set(work.layers) <= set(folder.manifest.get("layers", [])):
                    named = getattr(work.clip, "name", None)
                    clip_name = named if isinstance(named, str) else None
                    folder.update(work.layers, clip_name=clip_name, probe_name=work.probe.name)
                StoredImages.at(store, embedded_by, probe, folder.grid, contents)

        group.lead(prepare)
        self.activations = StoredActivations(ShardFolder.at(path, "network", parts, grid))
        self.images = StoredImages.at(store, embedded_by, probe, grid, contents)

    def fill(self) -> StoredRecording:
        """Record what is missing; a warning names what was damaged.

        Raises:
            StoreFullError: there is no space left.
            ValueError: an image could be read in one pass but not in another.
        """
        images, layers = self._group.lead(self._gaps)
        if layers and self._group.rank == 0:
            self._warn_of_other_versions()
        if self.images.folder.grid == self.activations.folder.grid:
            jobs = [Job(shard, layers.get(shard, ()), shard in images) for shard in sorted(images | layers.keys())]
            self._do(jobs, self.activations.folder.grid)
        else:
            self._do([Job(shard, (), True) for shard in sorted(images)], self.images.folder.grid)
            self._do([Job(shard, layers[shard], False) for shard in sorted(layers)], self.activations.folder.grid)
        self._group.wait()
        self._group.lead(self._complete)
        for folder in (self.images.folder, self.activations.folder):
            folder.refresh()
        return StoredRecording(ImageTable(self.images), self.activations, self._work.layers, self._work.pool)

    def _gaps(self) -> tuple[set[int], dict[int, tuple[str, ...]]]:
        """Shards without embeddings, and shards that lack layers."""
        images, layers = self.images.missing(), self.activations.missing(self._work.layers)
        if not images:
            for shard in self._unfit() - layers.keys():
                layers[shard] = tuple(self._work.layers)
        return images, layers

    def _warn_of_other_versions(self) -> None:
        folder, own = self.activations.folder, versions()["lwta"]
        others = {written["lwta"] for written in folder.manifest.get("written_by", [])} - {own}
        if others:
            warnings.warn(
                f"store: {folder.path} was written by lwta {', '.join(sorted(others))}, this is {own}; if they draw "
                "winners or preprocess in other ways, what is recorded now does not match what is there",
                stacklevel=5,
            )

    def _unfit(self) -> set[int]:
        """Shards that were recorded of other images than the embeddings were, because some could not be read once."""
        table, grid = ImageTable(self.images), self.activations.folder.grid
        entries = self.activations.folder.entries
        keys = {shard: table.keys[table.rows(grid.images_of(shard))] for shard in entries}
        return {shard for shard in entries if not self.activations.fits(shard, keys[shard])}

    def _do(self, jobs: Sequence[Job], grid: Grid) -> None:
        """This process's part of the jobs."""
        mine = self._group.share(jobs)
        if not mine:
            return
        ahead, left = (sum(len(grid.images_of(job.shard)) for job in some) for some in (jobs, mine))
        done = grid.images - ahead
        what = "dissecting" if any(job.layers for job in jobs) else "embedding"
        whose = f" (process 1 of {self._group.world_size})" if self._group.world_size > 1 else ""
        with tqdm(
            total=done + left, initial=done, desc=what + whose, unit=" images", disable=not self._progress
        ) as bar:
            kinds = sorted(mine, key=lambda job: (job.layers, job.images, job.shard))
            for _, group in groupby(kinds, key=lambda job: (job.layers, job.images)):
                self._record(list(group), grid, bar)

    def _record(self, jobs: Sequence[Job], grid: Grid, bar: tqdm) -> None:
        """Run what jobs of one kind ask for, and store each shard as soon as it is complete."""
        last = {grid.batches_of(job.shard)[-1]: job for job in jobs}
        numbers = [number for job in jobs for number in grid.batches_of(job.shard)]
        batches: list[Encoded] = []
        for batch in encode(reduced(self._work, jobs[0], grid.batch_size), numbers):
            batches.append(batch)
            if batch.number in last:
                self._store(last[batch.number], grid, batches)
                batches = []
            bar.update(len(batch.keys) + len(batch.skipped))

    def _store(self, job: Job, grid: Grid, batches: Sequence[Encoded]) -> None:
        with telling_full(self.activations.folder.path, grid.shards, self._work.layers):
            if job.images:
                places = grid.images_of(job.shard)
                keys = self._work.probe.keys or ()
                self.images.write(job.shard, keys[places.start : places.stop], batches)
            if job.layers:
                self.activations.write(job.shard, job.layers, batches)

    def _complete(self) -> None:
        """Gather the table of shards in the manifest; nothing is written where it is there already."""
        with telling_full(self.activations.folder.path, self.activations.folder.grid.shards, self._work.layers):
            self.images.folder.refresh()
            self.images.folder.update(skipped=[list(image) for image in ImageTable(self.images).skipped])
            self.activations.folder.update()
        unfit = self._unfit()
        if unfit:
            raise ValueError(
                f"store: some images of shards {sorted(unfit)} could be read when {self.images.folder.path} was "
                f"recorded but not now, or now but not then; {begin_anew(self.images.folder.path)}"
            )


@contextmanager
def telling_full(path: Path, shards: int, layers: Sequence[str]) -> Iterator[None]:
    """If no space is left while the context lasts, say how many of the shards of the network in ``path`` are there."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        entries = ShardFolder(path, "network").entries.values() if (path / MANIFEST).exists() else ()
        done = sum(entry.files.keys() >= StoredActivations.columns(layers) for entry in entries)
        what, advice = "no space left for", "make space"
        if error.errno == errno.EFBIG:
            what, advice = "a limit on the size of files (ulimit -f) was met in", "raise the limit"
        raise StoreFullError(
            error.errno,
            f"store: {what} {path}; {done} of its {shards} shards are complete and stay: {advice} and run the same "
            "again, it goes on from there",
        ) from None
