"""CLIP by open_clip: any of its models, a checkpoint of the user's own, or the tiny one of this library."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from lwta.dissection.words.embeddings import Embeddings
from lwta.support.digests import digest_of_tensors
from lwta.support.text import did_you_mean, some

TINY = Path(__file__).parent / "tiny"
TEXT_BATCH = 256
OFFLINE = (
    "without a network there are 'tiny', 'MODEL/path/to/checkpoint' with a file of this machine, and an NPZ of "
    "embeddings (ClipEncoder.from_embeddings)"
)


class ClipEncoder:
    """CLIP model with its preprocessing.

    Args:
        name: "tiny", the embedded model, which knows digits and simple shapes; or "MODEL/PRETRAINED" with a model of
            open_clip and either one of its pretrained tags ("ViT-B-16/openai", the choice of the DISCOVER paper) or the
            path of a checkpoint ("ViT-B-32/weights/clip.pt"; an absolute path makes two slashes in a row).

    Raises:
        ValueError: the model is unknown, or the part behind the slash is neither one of its tags nor a file.
        RuntimeError: the weights could not be downloaded or read.

    Example:
        >>> encoder = ClipEncoder("tiny")
        >>> encoder.encode_texts(["circle", "square"]).shape
        torch.Size([2, 64])
    """

    def __init__(self, name: str = "tiny") -> None:
        self.name = name
        self._model, self._transform, self._tokenizer = _open_tiny() if name == "tiny" else _open(name)
        self._model.eval().requires_grad_(False)
        self._device = torch.device("cpu")

    @staticmethod
    def from_embeddings(embeddings: str | Path | Mapping[str, Any]) -> Embeddings:
        """Return an encoder that looks up embeddings; arguments and errors are those of `Embeddings.load`."""
        return Embeddings.load(embeddings)

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """Preprocessing of the model, from a PIL image to (3, h, w) float32."""
        return self._transform

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights and the preprocessing."""
        return digest_of_tensors(self._model.state_dict(), start=repr(self._transform), gap="")

    def check_keys(self, keys: Sequence[str]) -> None:
        """Accept any keys: every image can be embedded."""

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self._model.to(device)
        self._device = device

    @torch.inference_mode()
    def encode_images(self, keys: Sequence[str], images: Tensor | None) -> Tensor:
        """Return the embeddings of n images, (n, d) float32, normalised, on the CPU.

        Args:
            keys: keys of the images, which are not used.
            images: preprocessed images, (n, 3, h, w).

        Raises:
            TypeError: ``images`` is None.
        """
        if images is None:
            raise TypeError("images must be a tensor of preprocessed images, got None")
        features = self._model.encode_image(images.to(self._device, non_blocking=True))
        return normalize(features.float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of M texts, (M, d) float32, normalised, on the CPU.

        Raises:
            ValueError: the tokenizer finds no token in some of the texts; they are named.
        """
        nothing = self._tokenizer([""])
        features = []
        for start in range(0, len(texts), TEXT_BATCH):
            batch = list(texts[start : start + TEXT_BATCH])
            tokens = self._tokenizer(batch)
            empty = [text for text, row in zip(batch, tokens, strict=True) if torch.equal(row, nothing[0])]
            if empty:
                raise ValueError(f"{len(empty)} concepts have no token in the vocabulary of CLIP: {some(empty)}")
            features.append(self._model.encode_text(tokens.to(self._device)).float())
        return normalize(torch.cat(features), dim=-1).cpu()

    def __repr__(self) -> str:
        return f"ClipEncoder({self.name!r})"


def is_published(name: str) -> bool:
    """Return whether a name of `ClipEncoder` is "tiny" or a model and tag of open_clip, and so names no file.

    Example:
        >>> is_published("ViT-B-32/openai"), is_published("ViT-B-32/weights.pt")
        (True, False)
    """
    if name == "tiny":
        return True
    import open_clip

    model, _, tag = name.partition("/")
    return model in open_clip.list_models() and tag in open_clip.list_pretrained_tags_by_model(model)


def _open_tiny() -> tuple[Any, Callable[[Image.Image], Tensor], Callable[[list[str]], Tensor]]:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from safetensors.torch import load_file

    config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    model = open_clip.CLIP(**config["model_cfg"])
    model.load_state_dict(load_file(TINY / "model.safetensors"))
    # by the vocabulary that open_clip has read already: to read it again takes as long as all else here
    tokenizer = partial(open_clip.tokenize, context_length=config["model_cfg"]["text_cfg"]["context_length"])
    return model, image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False), tokenizer


def _open(name: str) -> tuple[Any, Callable[[Image.Image], Tensor], Callable[[list[str]], Tensor]]:
    import open_clip

    architecture, _, pretrained = name.partition("/")
    models = open_clip.list_models()
    if architecture not in models:
        raise ValueError(
            f"name must be 'tiny' or 'MODEL/PRETRAINED' with a model of open_clip, got {name!r}"
            f"{did_you_mean(architecture, models)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise ValueError(
            f"name must be '{architecture}/PRETRAINED' with a checkpoint file or one of {', '.join(tags)}: "
            f"{pretrained!r} is neither"
        )
    try:
        with _no_logging():  # each of the downloader's attempts would be logged
            model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=pretrained)
    except Exception as error:
        what, advice = ("downloaded", f"; {OFFLINE}") if pretrained in tags else ("read", "")
        raise RuntimeError(f"the weights of CLIP {name!r} could not be {what}: {_reason(error)}{advice}") from None
    return model, transform, open_clip.get_tokenizer(architecture)


def _reason(error: Exception) -> str:
    """Return the first line of an error, without PyTorch's advice to unpickle the whole file, which may run code."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return "it is no file of weights alone, and whatever else it holds is not read" if "weights_only" in line else line


@contextmanager
def _no_logging() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
