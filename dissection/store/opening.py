"""Dissection through a store: `dissect` into one, and what is in one without the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lwta.dissection.clip import ClipEncoder, is_published
from lwta.dissection.concepts import Concepts
from lwta.dissection.encoder import Encoder
from lwta.dissection.encoding import Pass
from lwta.dissection.probe import Probe
from lwta.dissection.recording import tell_skipped
from lwta.dissection.result import Dissection
from lwta.dissection.similarity import Similarity, find_similarity, scoring_device
from lwta.dissection.store.contents import ImageTable, StoredActivations, StoredImages, network_folder
from lwta.dissection.store.filling import Filler, known_as, network_parts
from lwta.dissection.store.fingerprint import contents_in, embedder
from lwta.dissection.store.folder import RESUME, ShardFolder, other_parts
from lwta.dissection.store.manifest import MANIFEST
from lwta.dissection.store.recording import StoredRecording
from lwta.dissection.store.team import Team
from lwta.dissection.words import did_you_mean


def record_stored(
    work: Pass,
    store: str | Path,
    *,
    name: str | None,
    shard_images: int,
    progress: bool,
    make_similarity: Callable[[], Similarity],
    text_features: Tensor,
) -> tuple[StoredRecording, dict[str, Tensor]]:
    """Fill the store and score what is in it, together with the other processes if there are any.

    Arguments as in `dissect`.
    """
    if shard_images < 1:
        raise ValueError(f"shard_images must be at least 1, got {shard_images}")
    with Team.gathered() as team:
        recording = Filler(team, Path(store), name or type(work.model).__name__, work, shard_images, progress).fill()
        if team.rank == 0 or not recording.keys:
            tell_skipped(work.probe.name, len(recording.keys), recording.skipped)
        return recording, _scores(team, recording, make_similarity, text_features)


def _scores(
    team: Team, recording: StoredRecording, make_similarity: Callable[[], Similarity], text_features: Tensor
) -> dict[str, Tensor]:
    """As `Recording.scores`, each process reading a part of the shards."""
    if team.size == 1:
        return recording.scores(make_similarity, text_features)
    scores = {}
    for layer in recording.layers:
        similarity: Similarity | None = None
        for shard in recording.shards(layer, team.share(recording.numbers)):
            similarity = make_similarity() if similarity is None else similarity
            similarity.update(shard)
        scores[layer] = team.finalize(similarity, text_features)
    return scores


def open_store(
    store: str | Path,
    *,
    concepts: Concepts | Sequence[str] | str | Path,
    name: str | None = None,
    clip: Encoder | str | None = None,
    similarity: str | Callable[[], Similarity] = "soft_wpmi",
    layers: str | Iterable[str] | None = None,
    probe: Probe | str | Path | Iterable[Any] | None = None,
    device: torch.device | str = "cpu",
) -> Dissection:
    """What `dissect` recorded, by any concepts and similarity, without the network and without touching an image.

    The result does all that one of `dissect` does, except for explaining images, which takes the network.

    Args:
        store: folder that `dissect` filled.
        concepts: as in `dissect`.
        name: of the network in the store; None if there is only one.
        clip: the encoder with which the store was filled; None opens it by its name, if that is one of open_clip's
            pretrained models or "tiny".
        similarity: as in `dissect`.
        layers: some of the recorded layers; None for all.
        probe: the images, if a report is to show them.
        device: where similarities are computed, of which `cos_cubed` and the PMIs have kernels for GPUs.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: several networks and no ``name``, another CLIP than the store's, a layer that was not recorded, a
            recording that is not complete, or damaged; no ``clip``, and a store whose encoder is not published.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> with tempfile.TemporaryDirectory() as store:
        ...     result = dissect(network, "2", probe, clip=embeddings, concepts=embeddings.concepts, store=store,
        ...                      transform=torchvision.transforms.ToTensor(), progress=False)
        ...     again = open_store(store, clip=embeddings, concepts=["a blue thing", "a red thing"])
        ...     [(label.neuron, label.concept, label.wins) for label in again.labels("2")]
        [(0, 'a red thing', 1), (1, None, 0), (2, 'a blue thing', 1)]
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))), "network")
    parts = folder.manifest["parts"]
    encoder = _encoder(recorded_clip(store, folder.path.name) if clip is None else clip, folder)
    activations = StoredActivations(folder)
    wanted = activations.layers if layers is None else [layers] if isinstance(layers, str) else list(layers)
    for layer in wanted:
        if layer not in activations.layers:
            hint = did_you_mean(layer, activations.layers) or f"; recorded: {', '.join(activations.layers)}"
            raise ValueError(f"layers must be recorded in {folder.path}, {layer!r} is not{hint}")
    images = StoredImages.open(Path(store), embedder(parts), parts["probe"], contents_in(parts))
    for part, columns in ((images.folder, set(StoredImages.COLUMNS)), (folder, activations.columns(wanted))):
        complete = sum(entry.files.keys() >= columns for entry in part.entries.values())
        if complete < part.grid.shards:
            raise ValueError(f"store: {complete} of {part.grid.shards} shards of {part.path} are complete; {RESUME}")
    recording = StoredRecording(ImageTable(images), activations, wanted, parts["pool"])
    concepts, make_similarity = Concepts.of(concepts), find_similarity(similarity)
    place = scoring_device(device)
    scores = recording.scores(make_similarity, concepts.encode(encoder).to(place))
    gone_by: Iterable[Any] = iter(())
    return Dissection(
        model=None,
        transform=None,
        probe=Probe.of(gone_by if probe is None else probe),
        clip=encoder,
        recording=recording,
        concepts=concepts,
        similarity=make_similarity().name,
        _scores=scores,
        device=place,
    )


def recorded_clip(store: str | Path, name: str | None = None) -> str:
    """Name of the encoder with which a network in a store was recorded: "tiny", or a pretrained model of open_clip.

    Raises:
        ValueError: it has none, as it looked up embeddings, or it was a checkpoint or something else that open_clip
            does not publish: a store, which may come from anyone, does not say which file is opened.
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
    """See that a network is the one of this name in a store; None if there is only one.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: its weights, its architecture or its code are not those recorded.
    """
    folder = ShardFolder(network_folder(Path(store), name or _only_network(Path(store))), "network")
    other = other_parts(folder.manifest["parts"], network_parts(model))
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
    recorded = folder.manifest["parts"]["clip"]
    if known_as(encoder, recorded) != recorded:
        name = folder.manifest.get("clip_name")
        raise ValueError(
            f"clip must be the encoder with which {folder.path} was recorded{f' ({name})' if name else ''}; the "
            f"weights, the preprocessing or the embeddings of {encoder!r} are others"
        )
    return encoder
