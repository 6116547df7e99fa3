"""What is in a store: its networks, their recordings, and the encoder of their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lwta.dissection.store.contents import ImageTable, StoredActivations, StoredImages, network_folder
from lwta.dissection.store.fingerprint import embedder, fingerprint_architecture, fingerprint_weights
from lwta.dissection.store.folder import MANIFEST, RESUME, ShardFolder, other_parts
from lwta.dissection.store.stored import StoredRecording
from lwta.dissection.words.clip import ClipEncoder
from lwta.dissection.words.encoder import Encoder
from lwta.support.text import did_you_mean


def open_recording(
    store: str | Path,
    *,
    name: str | None = None,
    clip: Encoder | str | None = None,
    layers: Sequence[str] | None = None,
) -> tuple[StoredRecording, Encoder]:
    """Recording of a network in a store, and the encoder of its images. Arguments and errors as in `open_store`."""
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))))
    parts = folder.manifest["parts"]
    encoder = _encoder(recorded_clip(store, folder.path.name) if clip is None else clip, folder)
    activations = StoredActivations(folder)
    wanted = activations.layers if layers is None else list(layers)
    for layer in wanted:
        if layer not in activations.layers:
            hint = did_you_mean(layer, activations.layers) or f"; recorded: {', '.join(activations.layers)}"
            raise ValueError(f"layers must be recorded in {folder.path}, {layer!r} is not{hint}")
    images = StoredImages.open(Path(store), embedder(parts), parts["probe"])
    for part, columns in ((images.folder, set(StoredImages.COLUMNS)), (folder, activations.columns(wanted))):
        complete = sum(entry.files.keys() >= columns for entry in part.entries.values())
        if complete < part.grid.shards:
            raise ValueError(f"store: {complete} of {part.grid.shards} shards of {part.path} are complete; {RESUME}")
    return StoredRecording(ImageTable(images), activations, wanted, parts["pool"]), encoder


def recorded_clip(store: str | Path, name: str | None = None) -> str:
    """Name of the encoder with which a network in a store was recorded.

    Raises:
        ValueError: it has none, as it looked up embeddings.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))))
    clip: str | None = folder.manifest["clip_name"]
    if clip is None:
        raise ValueError(f"clip must be given: {folder.path} was recorded with embeddings computed before")
    return clip


def check_network(store: str | Path, model: nn.Module, name: str | None = None) -> None:
    """See that a network is the one of this name in a store; None if there is only one.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: its weights or its architecture are not those recorded.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))))
    now = {"weights": fingerprint_weights(model), "architecture": fingerprint_architecture(model)}
    other = other_parts({part: folder.manifest["parts"][part] for part in now}, now)
    if other:
        raise ValueError(f"model must be the network that was recorded in {folder.path}; it has {other}")


def networks(store: Path) -> list[str]:
    """Names of the networks in a store."""
    return sorted(
        path.parent.name for path in store.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("images-")
    )


def _only_network(store: Path) -> str:
    names = networks(store)
    if not names:
        raise FileNotFoundError(f"store must be a folder that a dissection filled; there is no network in {store}")
    if len(names) > 1:
        raise ValueError(f"name must be one of {', '.join(map(repr, names))}, the networks in {store}")
    return names[0]


def _encoder(clip: Encoder | str, folder: ShardFolder) -> Encoder:
    """The encoder, if it is that of the folder."""
    encoder = ClipEncoder(clip) if isinstance(clip, str) else clip
    if encoder.fingerprint != folder.manifest["parts"]["clip"]:
        name = folder.manifest["clip_name"]
        raise ValueError(
            f"clip must be the encoder with which {folder.path} was recorded{f' ({name})' if name else ''}; the "
            f"weights, the preprocessing or the embeddings of {encoder!r} are others"
        )
    return encoder
