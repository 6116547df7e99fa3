"""Dissection: which concept does each neuron stand for?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lwta.dissection.activations import Pool
from lwta.dissection.clip import ClipEncoder
from lwta.dissection.concepts import Concepts
from lwta.dissection.encoder import Encoder
from lwta.dissection.encoding import Pass
from lwta.dissection.hooks import find_layers
from lwta.dissection.precision import Precision
from lwta.dissection.preprocessing import Transform, find_transform
from lwta.dissection.probe import Probe
from lwta.dissection.recording import Recording, record
from lwta.dissection.result import Dissection
from lwta.dissection.similarity import Similarity, find_similarity, scoring_device
from lwta.dissection.store.opening import record_stored

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def dissect(
    model: nn.Module,
    layers: str | Iterable[str],
    probe: Probe | str | Path | Iterable[Any],
    *,
    clip: Encoder | str,
    concepts: Concepts | Sequence[str] | str | Path,
    similarity: str | Callable[[], Similarity] = "soft_wpmi",
    pool: Pool = "auto",
    transform: Transform | WeightsEnum | str | None = None,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
    store: str | Path | None = None,
    name: str | None = None,
    shard_images: int = 4096,
    precision: Precision = "auto",
    draws: int = 1,
    compile: bool = False,
) -> Dissection:
    """Name every neuron of some layers by the concept most similar to the images that excite it.

    The network and CLIP see the probe once. A neuron's activation on an image is its output, pooled to one number; in
    competitive layers it has one only where it won, by the word of the layer itself. Sampled winners are drawn once
    (DISCOVER, arXiv 2310.04929, section 3.3), or ``draws`` times and averaged. The model comes back in the mode and on
    the device it was in.

    Args:
        model: any network that takes a batch of images.
        layers: names as in ``model.named_modules()``, of competitive layers or any others with outputs (N, D),
            (N, L, D) or (N, D, H, W).
        probe: a folder, zip or tar archive of images, WebDataset shards, a dataset, or an iterable of (key, image): see
            `Probe.of`.
        clip: an encoder, or the name of one as in `ClipEncoder`.
        concepts: `Concepts`, names, "imagenet", "imagenet21k", "tiny", or a text file.
        similarity: a name among `SIMILARITIES`, or what makes an accumulator, such as ``partial(SoftWPMI, top_k=50)``.
        pool: how positions or tokens become one number: "mean", "max", or "cls", the first token; "auto" is "cls" for
            tokens of a model with a class token, else "mean".
        transform: the network's preprocessing, from a PIL image to a tensor; weights of torchvision, or their name, to
            which it belongs; or None for models of timm and open_clip, which carry it.
        batch_size: images at a time. With another one, sampled winners are other draws.
        workers: processes that read and preprocess images.
        seed: of the draws of the winners, at least 0; the same one gives the same result.
        device: where to compute; None is where the model is.
        progress: show a bar.
        store: folder to record into, shard by shard; what it holds already is not recorded again, so a pass that was
            stopped goes on, another similarity, other concepts or some of the layers need no pass, further layers need
            the network alone, and further networks share the embeddings of the images. In a process group (torchrun)
            the processes share the work, and all get the result; commands that run at once may use one store. A network
            is known by its weights, its repr, and the code and settings of its own classes; images by their keys and,
            in folders and archives, by sizes and by checksums (zip) or the ends of up to 65,536 files (folders, tar):
            remove the store if images changed in other ways. None records in memory.
        name: of the network in the store; None for the name of its class.
        shard_images: images after which the store is written, in whole batches; a store keeps those it began with.
        precision: in which networks compute, CLIP's image tower included: "bfloat16" or "float16" by autocast,
            "float32", or "auto": bfloat16 on GPUs that have it, for networks whose parameters are float32.
        draws: how often the winners are drawn. With several, a neuron's activation is its mean over the draws, 0 in
            those it lost; on an image where it won in one of them, it won.
        compile: run the network by `torch.compile`, which takes a minute and then saves time on large probes.

    Raises:
        ValueError: an unknown layer, similarity, pool or precision, fewer than one draw, no image or none readable, no
            concept or one that CLIP has no word for, precomputed embeddings that lack keys of the probe, a missing
            ``transform``. Also a store that holds this name with other weights, architecture, code, preprocessing,
            probe, images, CLIP, pooling, batch size, seed, precision or draws, or that is damaged.
        FileNotFoundError: there is no such folder or file.
        OSError: no space is left for the store, or it lies on a read-only medium and lacks something; what is in it
            stays.

    Warns:
        UserWarning: images were skipped because they cannot be read; they are counted and named. Or a file of the store
            was damaged and is recorded again. Or another version of this library began the store.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> red_or_blue = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> to_tensor = torchvision.transforms.ToTensor()
        >>> result = dissect(red_or_blue, "2", probe, clip=embeddings, concepts=embeddings.concepts,
        ...                  transform=to_tensor, progress=False)
        >>> [(label.neuron, label.concept, label.wins) for label in result.labels("2")]
        [(0, 'a red thing', 1), (1, None, 0), (2, 'a blue thing', 1)]
    """
    probe = Probe.of(probe)
    encoder = ClipEncoder(clip) if isinstance(clip, str) else clip
    concepts = Concepts.of(concepts)
    # whatever can be wrong with the arguments comes to light before the pass over the images
    layers = list(find_layers(model, layers))
    make_similarity = find_similarity(similarity)
    transform = find_transform(transform, model)
    text_features = concepts.encode(encoder)
    if probe.keys is not None:
        encoder.check_keys(probe.keys)
    work = Pass(
        *(model, layers, probe, encoder, transform, pool, batch_size, workers, seed, device, precision, draws, compile)
    )
    scoring = scoring_device(work.place)
    text_features = text_features.to(scoring)
    if store is None:
        recording: Recording = record(work, progress=progress)
        scores = recording.scores(make_similarity, text_features)
    else:
        recording, scores = record_stored(
            work,
            store,
            name=name,
            shard_images=shard_images,
            progress=progress,
            make_similarity=make_similarity,
            text_features=text_features,
        )
    return Dissection(model, transform, probe, encoder, recording, concepts, make_similarity().name, scores, scoring)
