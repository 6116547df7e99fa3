"""Train the tiny CLIP that this library embeds, on the CPU, and write its configuration, weights, concepts and card.

    python scripts/train_tiny_clip.py --out dissection/words/tiny

The loss is that of SigLIP (arXiv 2303.15343) with one change: an image and a caption are a positive pair whenever the
caption is true of the image, not only when they come from the same example.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save_file
from tiny_clip_card import write_card
from tiny_clip_data import CONCEPTS, UNKNOWN, WORDS, Caption, Example, caption, digit_examples, shape_examples
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

SCALE = 15.0
"""CLIP's logit scale, fixed. It is moderate, so that only widely spread cosines tell true captions from others."""

MARGINS = {"digit": 0.6, "shape": 0.5}
OTHER_MARGIN = 0.1
"""Cosine at which a caption is as likely true as not, by the kinds of concepts it says. What a thing is called gets a
larger cosine than what can be said of it, so that an eight is an "eight" before it is "two loops"."""

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        "init_logit_scale": float(np.log(SCALE)),
    },
    "preprocess_cfg": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
}
"""In the format of open_clip's `open_clip_config.json`."""

SHAPES_DRAWN = 16_000
BATCH = 128
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.05, 0.1  # the last as a fraction of the steps


class Vocabulary:
    """The few tokens that are trained, among all those of CLIP's tokenizer.

    Every other token gets the embedding of token 0, which also pads: to the model, all unknown words are the same one.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        text_cfg = CONFIG["model_cfg"]["text_cfg"]
        self._tokenize = open_clip.SimpleTokenizer(context_length=text_cfg["context_length"])
        tokens = self._tokenize(list(texts)).unique()  # sorted: CLIP finds the end of the text as the largest token
        self.size = len(tokens)
        self._place = torch.zeros(text_cfg["vocab_size"], dtype=torch.int64)
        self._place[tokens] = torch.arange(self.size)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, context_length) int64: the texts' tokens, by their place among those that are trained."""
        return self._place[self._tokenize(list(texts))]

    def new_model(self) -> open_clip.CLIP:
        """An untrained CLIP for these tokens only."""
        model_cfg = CONFIG["model_cfg"]
        return open_clip.CLIP(**{**model_cfg, "text_cfg": {**model_cfg["text_cfg"], "vocab_size": self.size}})

    def full_state(self, model: open_clip.CLIP) -> dict[str, Tensor]:
        """Weights of a CLIP for all of the tokenizer's tokens."""
        state = model.state_dict()
        state["token_embedding.weight"] = state["token_embedding.weight"][self._place]
        return state


def multi_hot(sets: Iterable[Iterable[str]]) -> Tensor:
    """(n, concepts) float32: 1 where a concept is in the set."""
    return torch.tensor([[float(word in chosen) for word in WORDS] for chosen in map(frozenset, sets)])


def margins(captions: Sequence[Caption]) -> Tensor:
    """(T,) cosine above which each caption counts as true: the largest among its concepts."""
    margin = {word: MARGINS.get(kind, OTHER_MARGIN) for kind, words in CONCEPTS.items() for word in words}
    return torch.tensor([max(margin[word] for word in caption.says) for caption in captions])


def always_asked() -> list[Caption]:
    """Captions in every batch: each bare concept, and unknown words, which say all at once and so are never true."""
    return [Caption(word, frozenset([word])) for word in WORDS] + [Caption(text, frozenset(WORDS)) for text in UNKNOWN]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift (n, 3, h, w) images in -1…1 a little, change their contrast and add noise."""
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    angle, scale = uniform(-0.15, 0.15), uniform(0.9, 1.12)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack((cos, -sin, uniform(-0.1, 0.1), sin, cos, uniform(-0.1, 0.1)), dim=1).view(n, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = (images + 1) * uniform(0.75, 1.1).view(n, 1, 1, 1) - 1  # black, which is -1, stays black
    noise = torch.randn(images.shape, generator=generator) * uniform(0, 0.1).view(n, 1, 1, 1)
    return (images + noise).clamp(-1, 1)


def loss(cosines: Tensor, truth: Tensor, margin: Tensor) -> Tensor:
    """Sigmoid loss of (n, T) cosines: summed over the captions, averaged over the images.

    Args:
        cosines: (n, T) of n images with T captions.
        truth: (n, T) bool: whether the caption is true of the image.
        margin: (T,) of each caption.
    """
    logits = SCALE * (cosines - margin)
    return F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none").sum(1).mean()


def train(examples: Sequence[Example], steps: int, seed: int) -> tuple[open_clip.CLIP, Vocabulary]:
    """Train a CLIP for the vocabulary of the examples' captions; half of every batch are digits."""
    torch.manual_seed(seed)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    transform = image_transform_v2(PreprocessCfg(**CONFIG["preprocess_cfg"]), is_train=False)
    images = torch.stack([transform(example.image) for example in examples])
    facts = multi_hot(example.facts.values() for example in examples)
    is_digit = torch.tensor(["digit" in example.facts for example in examples]).double()
    chances = is_digit / is_digit.sum() + (1 - is_digit) / (1 - is_digit).sum()

    vocabulary = Vocabulary([*WORDS, *(caption(example.facts, rng).text for example in examples)])
    model = vocabulary.new_model()
    model.logit_scale.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARM_UP)
    bar = tqdm(range(steps), desc="training", unit="step", mininterval=1)
    for _ in bar:
        batch = torch.multinomial(chances, BATCH, replacement=True, generator=generator)
        captions = always_asked() + [caption(examples[i].facts, rng) for i in batch.tolist()]
        says = multi_hot(caption.says for caption in captions)
        truth = (1 - facts[batch]) @ says.T == 0  # nothing that the caption says is missing from the facts
        image_features = model.encode_image(augment(images[batch], generator), normalize=True)
        text_features = model.encode_text(vocabulary([caption.text for caption in captions]), normalize=True)
        value = loss(image_features @ text_features.T, truth, margins(captions))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{value.item():.2f}", refresh=False)
    return model.eval(), vocabulary


def save(model: open_clip.CLIP, vocabulary: Vocabulary, folder: Path, training: Mapping[str, str]) -> None:
    """Write config.json, concepts.txt, and model.safetensors in float16 with how it was trained as its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    state = vocabulary.full_state(model)
    state = {key: (value.half() if value.is_floating_point() else value) for key, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"training": json.dumps(training)})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    (folder / "concepts.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


def main() -> None:
    """Train, save, measure what was saved, and write the card."""
    parser = argparse.ArgumentParser(description="Train the tiny CLIP and write its files.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the four files")
    parser.add_argument("--steps", type=int, default=3000, help=f"batches of {BATCH} images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of images, captions and weights (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()
    for name in ("steps", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    torch.set_num_threads(arguments.threads)

    start = time.monotonic()
    examples = digit_examples(held_out=False) + shape_examples(SHAPES_DRAWN, np.random.default_rng(arguments.seed))
    model, vocabulary = train(examples, arguments.steps, arguments.seed)
    minutes = (time.monotonic() - start) / 60
    training = {
        "Training images": f"{len(examples) - SHAPES_DRAWN} digits and {SHAPES_DRAWN} generated shapes",
        "Steps": f"{arguments.steps} of {BATCH} images, half of them digits",
        "Optimizer": f"AdamW, learning rate up to {LEARNING_RATE}, weight decay {WEIGHT_DECAY}",
        "Logit scale": f"{SCALE:g}, fixed",
        "Margins": ", ".join(f"{kind} {value}" for kind, value in {**MARGINS, "all others": OTHER_MARGIN}.items()),
        "Trained tokens": f"{vocabulary.size} of {CONFIG['model_cfg']['text_cfg']['vocab_size']}",
        "Duration": f"{minutes:.0f} minutes with {arguments.threads} CPU thread(s)",
        "Seed": str(arguments.seed),
    }
    save(model, vocabulary, arguments.out, training)
    print(write_card(arguments.out))


if __name__ == "__main__":
    main()
