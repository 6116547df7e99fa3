"""Recording in a store, read shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from lwta.dissection.recording.activations import Pool
from lwta.dissection.recording.kept import Kept
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.recording import Recording, Shard
from lwta.dissection.store.checked_files import DamagedFileError
from lwta.dissection.store.contents import ImageTable, StoredActivations
from lwta.dissection.store.folder import RESUME
from lwta.dissection.store.kept_files import KeptFiles
from lwta.support.digests import checksum


class StoredRecording(Recording):
    """Recording of some layers of a network in a store.

    Keys and labels of all images are in memory; embeddings and activations are read one shard at a time.

    Args:
        images: table of the probe's images.
        activations: stored activations of the network.
        layers: the layers that are wanted.
        pool: pooling, as the user gave it.

    Raises:
        ValueError: a key occurs twice.
    """

    def __init__(self, images: ImageTable, activations: StoredActivations, layers: Sequence[Layer], pool: Pool) -> None:
        super().__init__(images.keys, images.labels, layers, images.skipped, pool, activations.heads)
        self._images, self._activations = images, activations

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the shards with these numbers, as they were stored; a shard without a readable image is left out.

        Raises:
            DamagedFileError: a file is missing, damaged, or of other images.
        """
        grid = self._activations.folder.grid
        for number in numbers:
            places = grid.images_of(number)
            rows = self._images.rows(places)
            activations = self._activations.read(number, module)
            if not self._activations.fits(number, self.keys[rows]):
                raise DamagedFileError(
                    f"store: shard {number} of {self._activations.folder.path} is of other images than their "
                    f"embeddings; {RESUME}"
                )
            if activations is not None:
                yield Shard(self.ranks[rows], self._images.features(places), activations)

    def kept(self, layer: str | None) -> Kept:
        """Return the files beside the recording that hold tensors computed from one layer, or from the embeddings."""
        folder, embeddings = self._activations.folder, self._images.digest()
        if layer is None:
            return KeptFiles(self._images.path / "moments", embeddings)
        column = StoredActivations.columns([self.module(layer)])
        files = [
            f"{number} {entry.keys} {entry.files.get(name, '')}"
            for number, entry in sorted(folder.entries.items())
            for name in sorted(column)
        ]
        depends = checksum("\n".join([embeddings, self.transform(layer), *files]))
        return KeptFiles(folder.path / "moments" / quote(layer, safe=""), depends)

    @property
    def numbers(self) -> range:
        """Numbers of all shards."""
        return range(self._activations.folder.grid.shards)
