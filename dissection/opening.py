"""Opening of a store: a dissection without the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lwta.dissection.labels.choosing import choose
from lwta.dissection.recording.layers import Layer
from lwta.dissection.result import Dissection
from lwta.dissection.similarity import AUTO, Similarity, find_similarity, scoring_device
from lwta.dissection.store.opening import open_recording
from lwta.dissection.trust.abstention import Abstention
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.encoder import Encoder
from lwta.images import Probe


def open_store(
    store: str | Path,
    *,
    concepts: Concepts | Sequence[str] | str | Path,
    name: str | None = None,
    clip: Encoder | str | None = None,
    similarity: str | Callable[[], Similarity] = AUTO,
    abstain: bool = True,
    layers: str | Layer | Iterable[str | Layer] | None = None,
    probe: Probe | str | Path | Iterable[Any] | None = None,
    device: torch.device | str = "cpu",
) -> Dissection:
    """Open what `dissect` recorded: name the neurons by any concepts and similarity, without network or images.

    The result can do all that one of `dissect` can, except for explaining images, which needs the network.

    Args:
        store: folder that `dissect` filled.
        concepts: as in `dissect`.
        name: name of the network in the store; None if there is only one.
        clip: the encoder with which the store was filled; None opens it by its name, if that is one of open_clip's
            pretrained models or "tiny".
        similarity: as in `dissect`.
        abstain: as in `dissect`.
        layers: some of the recorded layers, as in `dissect`; None for all. Stores of versions that did not record which
            layer is the classification head take no softmax by themselves: give "fc:softmax" there.
        probe: the images, as in `dissect`, if a report is to show them.
        device: device to compute similarities on; "cos_cubed", "soft_wpmi" and "wpmi" have kernels for GPUs.

    Raises:
        FileNotFoundError: there is no such store, or no network of this name in it.
        ValueError: the store holds several networks and ``name`` is None, ``clip`` is another than the store's, a layer
            was not recorded, or the recording is not complete, or is damaged.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> with tempfile.TemporaryDirectory() as store:
        ...     result = dissect(network, "2", probe, clip=embeddings, concepts=embeddings.concepts, store=store,
        ...                      abstain=False, transform=torchvision.transforms.ToTensor(), progress=False)
        ...     again = open_store(store, clip=embeddings, concepts=["a blue thing", "a red thing"], abstain=False)
        ...     [(label.neuron, label.concept, label.wins) for label in again.labels("2")]
        [(0, 'a red thing', 1), (1, None, 0), (2, 'a blue thing', 1)]
    """
    recording, encoder = open_recording(store, name=name, clip=clip, layers=layers)
    concepts, similarity = Concepts.of(concepts), find_similarity(similarity)
    place = scoring_device(device)
    chosen = choose(recording, similarity, concepts.encode(encoder).to(place))
    no_images: Iterable[Any] = iter(())
    return Dissection(
        model=None,
        transform=None,
        probe=Probe.of(no_images if probe is None else probe),
        clip=encoder,
        recording=recording,
        concepts=concepts,
        similarity=similarity if isinstance(similarity, str) else similarity().name,
        _chosen=chosen,
        device=place,
        abstention=Abstention() if abstain else None,
    )
