"""Model folders: the weights of a network, and the configuration by which it is built again."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from lwta.models.checkpoint import load_checkpoint
from lwta.models.config import ModelConfig, config_of
from lwta.models.registry import build
from lwta.support.digests import CHECKSUM, digest_of_content
from lwta.support.files import write_atomically

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_model(model: nn.Module, folder: str | Path) -> Path:
    """Write a network of `lwta.create_model` as ``model.safetensors`` and ``config.json``.

    The temperature and evaluation mode that its competitions have now are written with it. Each file appears at once
    or not at all. The weights carry a checksum in their own file, so that damage is noticed when they are read, and no
    interruption can part the two.

    Args:
        model: the network, on any device.
        folder: folder to write into, created if it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: the network is of another origin, or its competitions have different settings.
        OSError: a file cannot be written; the message names it.

    Example:
        >>> import tempfile
        >>> from lwta import create_model
        >>> folder = tempfile.mkdtemp()
        >>> _ = save_model(create_model("resnet20", competitors=4), folder)
        >>> load_model(folder).lwta_config.competitors
        4
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    config = config_of(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(
            folder / WEIGHTS, lambda path: save_file(tensors, path, {CHECKSUM: digest_of_content(tensors)})
        )
    except SafetensorError as error:
        raise OSError(f"{folder / WEIGHTS} cannot be written: {error}") from None
    text = json.dumps(config.to_dict(), indent=1) + "\n"
    write_atomically(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def load_model(folder: str | Path, *, device: torch.device | str = "cpu") -> nn.Module:
    """Load the network that `save_model` wrote, in eval mode.

    Args:
        folder: folder with ``model.safetensors`` and ``config.json``.
        device: device of the network.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the configuration is not one of this package, or the weights are damaged or of another network.

    Example:
        >>> from lwta import create_model
        >>> load_model(save_model(create_model("resnet20"), tempfile.mkdtemp())).training
        False
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        model = build(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} describes no network of this package: {error}") from error
    return load_checkpoint(model, folder / WEIGHTS).to(device).eval()


def read_config(folder: Path) -> ModelConfig:
    """Read the configuration in a folder that `save_model` wrote.

    Raises:
        FileNotFoundError: there is no configuration.
        ValueError: the file is no configuration of this package.
    """
    path = folder / CONFIG
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold the settings of ModelConfig, found {type(settings).__name__}")
    try:
        return ModelConfig.from_dict(settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
