"""What the tests of several commands start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lwta import LWTA
from lwta.dissection import ClipEncoder, Concepts, dissect

TEXTS = ["red", "green", "blue"]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two stores, with competition and without, and the embeddings both were filled with."""
    folder = tmp_path_factory.mktemp("stores")
    colours = [tuple(255 - i if channel == i % 3 else 0 for channel in range(3)) for i in range(24)]
    probe = [(f"{i:02d}", Image.new("RGB", (2, 2), colour)) for i, colour in enumerate(colours)]
    np.savez(
        folder / "clip.npz",
        image_paths=[key for key, _ in probe],
        image_features=np.eye(3, dtype=np.float32)[np.arange(24) % 3],
        concepts=TEXTS,
        text_features=np.eye(3, dtype=np.float32),
    )
    clip = ClipEncoder.from_embeddings(folder / "clip.npz")
    for name, act in {"lwta": LWTA(3, eval_mode="argmax"), "relu": torch.nn.ReLU()}.items():
        model = torch.nn.Sequential(torch.nn.Flatten(), act)
        dissect(
            model,
            "1",
            probe,
            clip=clip,
            concepts=Concepts(TEXTS),
            transform=mean_colour,
            store=folder / name,
            progress=False,
        )
    return folder


def mean_colour(image: Image.Image) -> torch.Tensor:
    return torch.tensor(image.getpixel((0, 0))).float() / 255
