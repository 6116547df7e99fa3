"""Filling of a store: the pass over the probe that records what is missing, from where the last one stopped."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.one_pass import Encoded, Pass, encode
from lwta.dissection.recording.recording import warn_of_skipped
from lwta.dissection.store.checked_files import FULL, StoreFullError
from lwta.dissection.store.contents import ImageTable, StoredActivations, StoredImages, network_folder
from lwta.dissection.store.dependencies import depends_on, embedder, known_as
from lwta.dissection.store.fingerprint import fingerprint_images
from lwta.dissection.store.folder import ShardFolder
from lwta.dissection.store.manifest import MANIFEST, Grid, begin_anew, read_manifest, versions
from lwta.dissection.store.missing_part import Job, only_missing
from lwta.dissection.store.stored import StoredRecording
from lwta.support.processes import Group

ELSEWHERE = "give the network another name= (then it gets a folder of its own), another store=, or "


def fill_store(
    work: Pass,
    layers: Sequence[Layer],
    store: Path,
    *,
    name: str | None,
    shard_images: int,
    progress: bool,
    group: Group,
) -> StoredRecording:
    """Fill the store with what it lacks of a recording, together with the other processes of the group.

    Args:
        work: the pass that records what is missing.
        layers: layers of the recording, made of the modules that the pass records.
        store: folder of the store.
        name: name of the network in the store; None for the name of its class.
        shard_images: images in a shard, if the store is new.
        progress: show a bar.
        group: processes that share the work.

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
    grid = Grid(len(work.probe.keys or ()), work.batch_size, max(shard_images // work.batch_size, 1))
    images, activations = _open_folders(work, store, name or type(work.model).__name__, grid, group)
    recording = Filler(group, work, images, activations, progress=progress).fill(layers)
    if group.rank == 0 or not recording.keys:
        warn_of_skipped(work.probe.name, len(recording.keys), recording.skipped)
    return recording


def _open_folders(
    work: Pass, store: Path, name: str, grid: Grid, group: Group
) -> tuple[StoredImages, StoredActivations]:
    """Open the folders of a network and of the images in a store; the process of rank 0 creates those that are missing.

    Args:
        work: the pass that records.
        store: folder of the store.
        name: name of the network in the store.
        grid: grid of new folders; existing ones keep their own.
        group: processes that share the work.

    Raises:
        ValueError: the store was recorded otherwise, or ``name`` is not allowed.
        StoreFullError: there is no space left.
    """
    contents = group.lead(lambda: fingerprint_images(work.probe))
    parts = depends_on(work, contents)
    path = network_folder(store, name)
    if (path / MANIFEST).exists():
        parts["clip"] = known_as(work.clip, read_manifest(path, "network")[0]["parts"]["clip"])

    def open_images(grid: Grid) -> StoredImages:
        return StoredImages.at(store, embedder(parts), str(parts["probe"]), grid, contents)

    def create() -> None:
        with _shards_counted_when_full(path, grid.shards, work.layers):
            open_images(_open_network(path, parts, grid, work).grid)

    group.lead(create)
    return open_images(grid), StoredActivations(ShardFolder.at(path, "network", parts, grid))


def _open_network(path: Path, parts: Mapping[str, str | int], grid: Grid, work: Pass) -> ShardFolder:
    """Open the folder of a network, created if it does not exist, and enter the layers that it does not list yet."""
    folder = ShardFolder.at(path, "network", parts, grid, ELSEWHERE)
    if not set(work.layers) <= set(folder.manifest.get("layers", [])):
        clip_name = getattr(work.clip, "name", None)
        folder.update(
            work.layers,
            clip_name=clip_name if isinstance(clip_name, str) else None,
            probe_name=work.probe.name,
        )
    return folder


class Filler:
    """Process that records what a store lacks, alone or as one of a group.

    Args:
        group: processes that share the work.
        work: the pass that records what is missing.
        images: folder of the images' embeddings.
        activations: folder of the network's activations.
        progress: show a bar, in the process of rank 0.
    """

    def __init__(
        self, group: Group, work: Pass, images: StoredImages, activations: StoredActivations, *, progress: bool
    ) -> None:
        self._group, self._work = group, work
        self._images, self._activations = images, activations
        self._progress = progress and group.rank == 0

    def fill(self, wanted: Sequence[Layer]) -> StoredRecording:
        """Record what is missing, and return the whole recording; a warning names damaged files.

        Args:
            wanted: layers of the recording.

        Raises:
            StoreFullError: there is no space left.
            ValueError: an image could be read in one pass but not in another.
        """
        images, layers = self._group.lead(self._gaps)
        if layers and self._group.rank == 0:
            self._warn_of_other_versions()
        grid_of_images, grid = self._images.folder.grid, self._activations.folder.grid
        if grid_of_images == grid:
            jobs = [Job(shard, layers.get(shard, ()), shard in images) for shard in sorted(images | layers.keys())]
            self._record_missing(jobs, grid)
        else:
            self._record_missing([Job(shard, (), True) for shard in sorted(images)], grid_of_images)
            self._record_missing([Job(shard, layers[shard], False) for shard in sorted(layers)], grid)
        self._group.wait()
        self._group.lead(self._complete)
        for folder in (self._images.folder, self._activations.folder):
            folder.refresh()
        return StoredRecording(ImageTable(self._images), self._activations, wanted, self._work.pool)

    def _gaps(self) -> tuple[set[int], dict[int, tuple[str, ...]]]:
        """Find the shards without embeddings, and the layers that each shard lacks."""
        images, layers = self._images.missing(), self._activations.missing(self._work.layers)
        if not images:
            for shard in self._unfit() - layers.keys():
                layers[shard] = tuple(self._work.layers)
        return images, layers

    def _warn_of_other_versions(self) -> None:
        folder, own = self._activations.folder, versions()["lwta"]
        others = {written["lwta"] for written in folder.manifest.get("written_by", [])} - {own}
        if others:
            warnings.warn(
                f"store: {folder.path} was written by lwta {', '.join(sorted(others))}, this is {own}; if they draw "
                "winners or preprocess in other ways, what is recorded now does not match what is there",
                stacklevel=5,
            )

    def _unfit(self) -> set[int]:
        """Find the shards whose activations and embeddings are of different images, as some were unreadable once."""
        table, folder = ImageTable(self._images), self._activations.folder
        keys = {shard: table.keys[table.rows(folder.grid.images_of(shard))] for shard in folder.entries}
        return {shard for shard in folder.entries if not self._activations.fits(shard, keys[shard])}

    def _record_missing(self, jobs: Sequence[Job], grid: Grid) -> None:
        """Do this process's part of the jobs."""
        my_jobs = self._group.share(jobs)
        if not my_jobs:
            return
        images_missing, images_mine = _count_images(jobs, grid), _count_images(my_jobs, grid)
        images_done = grid.images - images_missing
        what = "dissecting" if any(job.layers for job in jobs) else "embedding"
        suffix = f" (process 1 of {self._group.world_size})" if self._group.world_size > 1 else ""
        with tqdm(
            total=images_done + images_mine,
            initial=images_done,
            desc=what + suffix,
            unit=" images",
            disable=not self._progress,
        ) as bar:
            by_kind = sorted(my_jobs, key=lambda job: (job.layers, job.images, job.shard))
            for _, alike in groupby(by_kind, key=lambda job: (job.layers, job.images)):
                self._record(list(alike), grid, bar)

    def _record(self, jobs: Sequence[Job], grid: Grid, bar: tqdm) -> None:
        """Record what jobs of one kind ask for, and store each shard as soon as it is complete."""
        job_by_last_batch = {grid.batches_of(job.shard)[-1]: job for job in jobs}
        numbers = [number for job in jobs for number in grid.batches_of(job.shard)]
        batches: list[Encoded] = []
        for batch in encode(only_missing(self._work, jobs[0], grid.batch_size), numbers):
            batches.append(batch)
            if batch.number in job_by_last_batch:
                self._store(job_by_last_batch[batch.number], grid, batches)
                batches = []
            bar.update(len(batch.keys) + len(batch.skipped))

    def _store(self, job: Job, grid: Grid, batches: Sequence[Encoded]) -> None:
        with _shards_counted_when_full(self._activations.folder.path, grid.shards, self._work.layers):
            if job.images:
                places = grid.images_of(job.shard)
                keys = self._work.probe.keys or ()
                self._images.write(job.shard, keys[places.start : places.stop], batches)
            if job.layers:
                self._activations.write(job.shard, job.layers, batches)

    def _complete(self) -> None:
        """Gather the table of shards in the manifest; a manifest that has it all already is not written again."""
        images, activations = self._images.folder, self._activations.folder
        with _shards_counted_when_full(activations.path, activations.grid.shards, self._work.layers):
            images.refresh()
            images.update(skipped=[list(image) for image in ImageTable(self._images).skipped])
            activations.update()
        unfit = self._unfit()
        if unfit:
            raise ValueError(
                f"store: some images of shards {sorted(unfit)} could be read when {images.path} was "
                f"recorded but not now, or now but not then; {begin_anew(images.path)}"
            )


def _count_images(jobs: Sequence[Job], grid: Grid) -> int:
    """Return the number of images in the shards of these jobs."""
    return sum(len(grid.images_of(job.shard)) for job in jobs)


@contextmanager
def _shards_counted_when_full(path: Path, shards: int, layers: Sequence[str]) -> Iterator[None]:
    """Context whose errors of a full disk say how many shards of the network in ``path`` are complete, and what to do.

    Raises:
        StoreFullError: there is no space left.
    """
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
