"""Opening of a store: its networks, their recordings, and the encoder of their images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from lwta.dissection.recording.layers import Layer, as_layers
from lwta.dissection.store.contents import ImageTable, StoredActivations, StoredImages, network_folder
from lwta.dissection.store.dependencies import contents_in, embedder, known_as, network_parts
from lwta.dissection.store.folder import RESUME, ShardFolder, other_parts
from lwta.dissection.store.manifest import MANIFEST
from lwta.dissection.store.stored import StoredRecording
from lwta.dissection.words.clip import ClipEncoder, is_published
from lwta.dissection.words.encoder import Encoder
from lwta.support.text import did_you_mean


def open_recording(
    store: str | Path,
    *,
    name: str | None = None,
    clip: Encoder | str | None = None,
    layers: str | Layer | Iterable[str | Layer] | None = None,
) -> tuple[StoredRecording, Encoder]:
    """Open the recording of a network in a store, and the encoder of its images.

    Args:
        store: folder of the store.
        name: name of the network in the store; None if there is only one.
        clip: encoder of the recording, or its name; None opens it by the name in the store.
        layers: recorded layers, by name or with functions of their outputs; None for all.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: there are several networks and ``name`` is None, ``clip`` is another encoder than the store's, a
            layer was not recorded or is given twice, a function of a layer is unknown, or the recording is incomplete
            or damaged.
        TypeError: a layer is neither a text nor a `Layer`.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))), "network")
    parts = folder.manifest["parts"]
    encoder = _encoder(recorded_clip(store, folder.path.name) if clip is None else clip, folder)
    activations = StoredActivations(folder)
    wanted = [Layer(name) for name in activations.layers] if layers is None else as_layers(layers, activations.layers)
    modules = list(dict.fromkeys(layer.name for layer in wanted))
    for layer in modules:
        if layer not in activations.layers:
            hint = did_you_mean(layer, activations.layers) or f"; recorded: {', '.join(activations.layers)}"
            raise ValueError(f"layers must be recorded in {folder.path}, {layer!r} is not{hint}")
    images = StoredImages.open(Path(store), embedder(parts), parts["probe"], contents_in(parts))
    for part, columns in ((images.folder, set(StoredImages.COLUMNS)), (folder, activations.columns(modules))):
        complete = sum(entry.files.keys() >= columns for entry in part.entries.values())
        if complete < part.grid.shards:
            raise ValueError(f"store: {complete} of {part.grid.shards} shards of {part.path} are complete; {RESUME}")
    return StoredRecording(ImageTable(images), activations, wanted, parts["pool"]), encoder


def recorded_clip(store: str | Path, name: str | None = None) -> str:
    """Return the name of the encoder of a recording: "tiny", or a pretrained model of open_clip.

    Args:
        store: folder of the store.
        name: name of the network in the store; None if there is only one.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: the encoder has no name, as it looked up embeddings; or it was a checkpoint or something else that
            open_clip does not publish. A store may come from anyone, so it does not decide which file is opened.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))), "network")
    clip: str | None = folder.manifest.get("clip_name")
    if clip is None:
        raise ValueError(f"clip must be given: {folder.path} was recorded with embeddings computed before")
    if not is_published(clip):
        raise ValueError(
            f"clip must be given (--clip on the command line): {folder.path} was recorded with {clip!r}, which is no "
            "pretrained model of open_clip; files that a store names are not opened"
        )
    return clip


def check_network(store: str | Path, model: nn.Module, name: str | None = None) -> None:
    """Check that a network is the one that was recorded in a store.

    Args:
        store: folder of the store.
        model: the network.
        name: name of the network in the store; None if there is only one.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: weights, architecture or code of the network are not those recorded.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))), "network")
    other = other_parts(folder.manifest["parts"], network_parts(model))
    if other:
        raise ValueError(f"model must be the network that was recorded in {folder.path}; it has {other}")


def networks(store: Path) -> list[str]:
    """Return the names of the networks in a store, sorted."""
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
    """Return the encoder, or open it by its name.

    Raises:
        ValueError: the folder was recorded with another encoder.
    """
    encoder = ClipEncoder(clip) if isinstance(clip, str) else clip
    recorded = folder.manifest["parts"]["clip"]
    if known_as(encoder, recorded) != recorded:
        name = folder.manifest.get("clip_name")
        raise ValueError(
            f"clip must be the encoder with which {folder.path} was recorded{f' ({name})' if name else ''}; the "
            f"weights, the preprocessing or the embeddings of {encoder!r} are others"
        )
    return encoder
