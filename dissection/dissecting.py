"""Dissection of a network: the pass over the images, and the naming of its neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lwta.dissection.labels.choosing import choose
from lwta.dissection.recording.activations import Pool
from lwta.dissection.recording.hooks import choose_layers
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.one_pass import Pass
from lwta.dissection.recording.precision import Precision
from lwta.dissection.recording.preprocessing import Transform, find_transform
from lwta.dissection.recording.recording import Recording, record
from lwta.dissection.result import Dissection
from lwta.dissection.similarity import AUTO, Similarity, check_concepts, find_similarity, scoring_device
from lwta.dissection.store.filling import fill_store
from lwta.dissection.trust.abstention import Abstention
from lwta.dissection.words.clip import ClipEncoder
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.encoder import Encoder
from lwta.images import Probe
from lwta.support.processes import cpu_group

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def dissect(
    model: nn.Module,
    layers: str | Layer | Iterable[str | Layer],
    probe: Probe | str | Path | Iterable[Any],
    *,
    clip: Encoder | str,
    concepts: Concepts | Sequence[str] | str | Path,
    similarity: str | Callable[[], Similarity] = AUTO,
    abstain: bool = True,
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

    The network and CLIP see the probing set once. A neuron's activation on an image is its output, pooled to a number.
    In an LWTA layer only wins count; who won comes from the layer, not from the output. Sampled winners are drawn once
    (DISCOVER, arXiv 2310.04929, section 3.3), or ``draws`` times and averaged. Afterwards the model is in the mode and
    on the device it was in before.

    Args:
        model: any network that takes a batch of images.
        layers: names as in ``model.named_modules()``, of competitive layers or any others with outputs (N, D),
            (N, L, D) or (N, D, H, W). A `Layer`, or its text such as "fc:softmax", says which function of the outputs
            counts; without, the logits of a classification head are taken after a softmax, all else as it is.
        probe: probing set: a folder, zip or tar archive of images, WebDataset shards, a dataset, or an iterable of
            (key, image); see `Probe.of`.
        clip: an encoder, or the name of one as in `ClipEncoder`.
        concepts: `Concepts`, names, "imagenet", "imagenet21k", "tiny", or a text file.
        similarity: labeler: a name among `SIMILARITIES`, or a callable that makes an accumulator, such as
            ``partial(Linear, words=10)``; "auto" is "peak" after a softmax and "linear" for all other layers.
        abstain: give no label to neurons that no word fits, by the rule of `Abstention`; else every neuron that is not
            dead has one.
        pool: how positions or tokens become one number: "mean", "max", or "cls", the first token; "auto" is "cls" for
            tokens of a model with a class token, else "mean".
        transform: the network's preprocessing, from a PIL image to a tensor; the weights of torchvision to which it
            belongs, or their name; or None for models of timm and open_clip, which carry it.
        batch_size: images at a time; another size draws other winners.
        workers: number of processes that read and preprocess images; with 0 this process does it.
        seed: seed of the draws of the winners, at least 0; the same seed gives the same result.
        device: device to compute on; None for that of the model.
        progress: show a progress bar.
        store: folder to record into, shard by shard; None records in memory. Whatever the store holds already is not
            recorded again: a pass that was stopped is resumed; another similarity, other concepts or some of the layers
            need no pass; further layers need only the network; further networks share the embeddings of the images. In
            a process group (torchrun) the processes share the work, and the result is returned in all of them.
            Commands that run at once may use one store. A network is identified by its weights, its repr, and the code
            and settings of its own classes; images by their keys and, in folders and archives, by sizes and by
            checksums (zip) or the ends of up to 65,536 files (folders, tar): remove the store if images changed in
            other ways.
        name: name of the network in the store; None for the name of its class.
        shard_images: images in a shard of the store, in whole batches; a store keeps the size it began with.
        precision: precision in which networks compute, CLIP's image tower included: "bfloat16" or "float16" by
            autocast, "float32", or "auto": bfloat16 on GPUs that have it, for networks whose parameters are float32.
        draws: how often the winners are drawn. With several, a neuron's activation is its mean over the draws, 0 in
            those it lost; on an image where it won in one of them, it won.
        compile: run the network by `torch.compile`, which takes a minute and then saves time on large probing sets.

    Raises:
        ValueError: a layer, a function of its outputs, a similarity, pooling or precision is unknown, a layer is given
            twice or a function of a layer with competition is asked for, there is less than one draw, there is no image
            or none is readable, there is no concept or one that CLIP has no token for, precomputed embeddings lack keys
            of the probe, or ``transform`` is missing. Also if the store holds this name with other weights,
            architecture, code, preprocessing, probe, images, CLIP, pooling, batch size, seed, precision or draws, or if
            it is damaged.
        FileNotFoundError: the folder or file of the probe or the concepts does not exist.
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
        ...                  abstain=False, transform=to_tensor, progress=False)  # two images check no label
        >>> [(label.neuron, label.concept, label.wins) for label in result.labels("2")]
        [(0, 'a red thing', 1), (1, None, 0), (2, 'a blue thing', 1)]
    """
    probe = Probe.of(probe)
    encoder = ClipEncoder(clip) if isinstance(clip, str) else clip
    concepts = Concepts.of(concepts)
    # whatever can be wrong with the arguments comes to light before the pass over the images
    chosen = choose_layers(model, layers)
    similarity = find_similarity(similarity)
    check_concepts(similarity, len(concepts))
    transform = find_transform(transform, model)
    text_features = concepts.encode(encoder)
    if probe.keys is not None:
        encoder.check_keys(probe.keys)
    work = Pass(
        model=model,
        layers=list(dict.fromkeys(layer.name for layer in chosen)),
        probe=probe,
        clip=encoder,
        transform=transform,
        pool=pool,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        device=device,
        precision=precision,
        draws=draws,
        compile=compile,
    )
    place = scoring_device(work.place)
    text_features = text_features.to(place)
    if store is None:
        recording: Recording = record(work, chosen, progress=progress)
        labels = choose(recording, similarity, text_features)
    else:
        with cpu_group() as group:
            recording = fill_store(
                work, chosen, Path(store), name=name, shard_images=shard_images, progress=progress, group=group
            )
            labels = choose(recording, similarity, text_features, group=group)
    return Dissection(
        model=model,
        transform=transform,
        probe=probe,
        clip=encoder,
        recording=recording,
        concepts=concepts,
        similarity=similarity if isinstance(similarity, str) else similarity().name,
        _chosen=labels,
        device=place,
        abstention=Abstention() if abstain else None,
    )
