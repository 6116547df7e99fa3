"""CLIP through open_clip: checkpoints on this machine, errors that tell the way."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from lwta.dissection import ClipEncoder, Concepts
from lwta.dissection.words import clip as clip_module

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A randomly initialised CLIP that open_clip knows by name, and its checkpoint, as one name."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "small-test-clip.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    torch.save(open_clip.create_model("small-test-clip").state_dict(), folder / "weights.pt")
    return f"small-test-clip/{folder / 'weights.pt'}"


def reference(name: str) -> tuple[Any, Any, Any]:
    architecture, _, checkpoint = name.partition("/")
    model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=checkpoint)
    return model.eval(), preprocess, open_clip.get_tokenizer(architecture)


def assert_unit(features: Tensor, shape: tuple[int, int]) -> None:
    assert features.shape == shape
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(shape[0]))


@torch.no_grad()
def test_a_checkpoint_equals_open_clip(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_module, "TEXT_BATCH", 2)
    encoder = ClipEncoder(small)
    model, preprocess, tokenizer = reference(small)
    image, words = Image.new("RGB", (50, 40), (200, 30, 90)), ["cat", "dog", "polar bear"]
    batch = encoder.preprocess(image)[None]
    assert torch.equal(batch, preprocess(image)[None])
    features, texts = encoder.encode_images(["a"], batch), encoder.encode_texts(words)
    assert_unit(features, (1, 16))
    assert_unit(texts, (3, 16))
    torch.testing.assert_close(features, model.encode_image(batch, normalize=True))
    torch.testing.assert_close(texts, model.encode_text(tokenizer(words), normalize=True))


@pytest.mark.slow
def test_open_clip_is_loaded_only_when_it_is_needed() -> None:
    code = "import sys, lwta, lwta.dissection; sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fingerprint_follows_the_weights(small: str, tmp_path: Path) -> None:
    state = torch.load(small.partition("/")[2])
    state["logit_scale"] += 1
    torch.save(state, tmp_path / "other.pt")
    first, second, other = (ClipEncoder(name) for name in (small, small, f"small-test-clip/{tmp_path / 'other.pt'}"))
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_a_concept_without_tokens_is_named(small: str) -> None:
    with pytest.raises(ValueError, match="1 concepts have no token in the vocabulary of CLIP: '&nbsp;'"):
        Concepts(["cat", "&nbsp;"]).encode(ClipEncoder(small))


def test_unknown_names(small: str) -> None:
    with pytest.raises(
        ValueError, match=r"'MODEL/PRETRAINED' with a model of open_clip, got 'ViTB16/openai'.*'ViT-B-16'"
    ):
        ClipEncoder("ViTB16/openai")
    with pytest.raises(ValueError, match=r"checkpoint file or one of openai, .*: 'openia' is neither"):
        ClipEncoder("ViT-B-16/openia")


def test_a_file_that_is_no_checkpoint(small: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("nothing")
    with pytest.raises(RuntimeError, match="could not be read"):
        ClipEncoder(f"small-test-clip/{tmp_path / 'weights.pt'}")


class Payload:
    """Would make a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, on what the file holds
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "script", "empty"])
def test_weights_that_hold_code_are_refused_without_bad_advice(small: str, kind: str, tmp_path: Path) -> None:
    path, made = tmp_path / "weights.pt", tmp_path / "made"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(made)))
    elif kind == "script":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    elif kind == "empty":
        path.touch()
    else:
        torch.save({"a": Payload(made)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(RuntimeError) as error:
        ClipEncoder(f"small-test-clip/{path}")
    message = str(error.value)
    assert f"{path}' could not be read: " in message
    assert ("EOFError" if kind == "empty" else "it is no file of weights alone") in message
    assert "weights_only" not in message
    assert "\n" not in message
    assert not made.exists()


def test_without_a_network_one_line_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai'\nsecond line")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", fail)
    with pytest.raises(RuntimeError) as error:
        ClipEncoder("ViT-B-16/openai")
    message = str(error.value)
    assert "could not be downloaded" in message
    assert "'tiny'" in message
    assert "from_embeddings" in message
    assert "\n" not in message


def test_the_embedded_clip() -> None:
    encoder = ClipEncoder()
    assert_unit(encoder.encode_images(["a"], encoder.preprocess(Image.new("RGB", (8, 8)))[None]), (1, 64))
    concepts = Concepts.tiny()
    assert {"seven", "circle"} <= set(concepts.names)
    assert_unit(concepts.encode(encoder), (len(concepts), 64))
