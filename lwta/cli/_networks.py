"""Networks by name: timm's, torchvision's, this package's, saved ones, or one that a function of the user returns."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

import lwta
from lwta.dissection.recording.preprocessing import Transform
from lwta.models.checkpoint import ADVICE
from lwta.support.text import did_you_mean

FORMS = "timm:NAME, torchvision:NAME, lwta:NAME/U, FOLDER of save_model, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"


class FoundModel(NamedTuple):
    """Network that an option names, with its preprocessing where that is known."""

    model: nn.Module
    """The network."""
    transform: Transform | None
    """Preprocessing of the network; None if the network itself carries it, as timm's do, or if it is not known."""


def add_model(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the options that name a network, for `find_model`."""
    parser.add_argument("--model", required=required, help=FORMS)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights to load into the network")
    parser.add_argument("--transform", metavar="FILE.py:FUNCTION", help="the network's preprocessing, if it has none")


def find_model(text: str, checkpoint: Path | None = None, *, weights: bool = True) -> FoundModel:
    """Find the network that ``--model`` names.

    Args:
        text: "timm:NAME" or "torchvision:NAME", with their pretrained weights, which are downloaded, if there is no
            ``checkpoint``; "lwta:NAME/U" of `lwta.create_model` with U competitors (2 if left away), which needs a
            ``checkpoint``; a folder that `lwta.save_model` wrote; or "FILE.py:FUNCTION" or "PACKAGE.MODULE:FUNCTION"
            of a function that takes nothing and returns a network, or a network and its preprocessing.
        checkpoint: a file of weights to load into it, as in `lwta.load_checkpoint`.
        weights: whether weights are needed; if not, nothing is downloaded.

    Raises:
        ValueError: there is no such network, or the weights do not fit it.
        FileNotFoundError: there is no such file.
        RuntimeError: the pretrained weights cannot be downloaded.
    """
    if Path(text).is_dir():
        found = FoundModel(lwta.load_model(text), None)
        return found if checkpoint is None else _loaded(found, checkpoint)
    source, colon, name = text.rpartition(":")
    if not (source and colon and name):
        raise ValueError(f"--model must be {FORMS}, got {text!r}")
    pretrained = weights and checkpoint is None
    if source == "timm":
        found = FoundModel(_timm(name, pretrained), None)
    elif source == "torchvision":
        found = _torchvision(name, pretrained)
    elif source == "lwta":
        found = FoundModel(_untrained(name, pretrained), None)
    else:
        found = _made(find_function("--model", text)(), text)
    return found if checkpoint is None else _loaded(found, checkpoint)


def find_function(option: str, text: str) -> Callable[..., Any]:
    """Find the function, or another object that can be called, of "FILE.py:NAME" or "PACKAGE.MODULE:NAME".

    Args:
        option: name of the option, for messages.
        text: value of the option.

    Raises:
        ValueError: there is no such module, or no such function in it.
        FileNotFoundError: there is no such file.
    """
    source, _, name = text.rpartition(":")
    module = _module_of_file(Path(source)) if source.endswith(".py") else _module_of_name(option, source)
    if not callable(getattr(module, name, None)):
        choices = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise ValueError(f"{option}: {source} has no function {name!r}{did_you_mean(name, choices)}")
    function: Callable[..., Any] = getattr(module, name)
    return function


def _loaded(found: FoundModel, checkpoint: Path) -> FoundModel:
    """Load all weights of a checkpoint into a network, and return the network."""
    try:
        lwta.load_checkpoint(found.model, checkpoint)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--checkpoint: {error}") from None
    except ValueError as error:
        message = str(error)
        if message.endswith(ADVICE):  # it is for those who call the function
            message = f"{message.removesuffix(ADVICE)}. A network that needs arguments: --model FILE.py:FUNCTION"
        raise ValueError(f"--checkpoint: {message}") from None
    return found


def _untrained(text: str, pretrained: bool) -> nn.Module:
    """Build the network of `lwta.create_model` that "NAME/U" names."""
    name, _, units = text.partition("/")
    if name not in lwta.list_models():
        raise ValueError(f"--model: lwta has no model {name!r}{did_you_mean(name, lwta.list_models())}")
    if units and not units.isdecimal():
        raise ValueError(f"--model must be lwta:NAME/U with a number U of competitors, got {units!r}")
    if pretrained:
        raise ValueError(f"--model: lwta:{text} comes without weights; give a file: --checkpoint FILE")
    return lwta.create_model(name, int(units or 2))


def _timm(name: str, pretrained: bool) -> nn.Module:
    """Build the network of timm with this name."""
    import timm

    base = name.split(".")[0]
    if not timm.is_model(base):
        raise ValueError(f"--model: timm has no model {name!r}{did_you_mean(base, timm.list_models())}")
    with_weights: nn.Module = _downloading(name, lambda: timm.create_model(name, pretrained=pretrained), pretrained)
    return with_weights


def _torchvision(name: str, pretrained: bool) -> FoundModel:
    """Build the network of torchvision with this name, with the preprocessing of its default weights."""
    from torchvision import models

    if name not in models.list_models():
        raise ValueError(f"--model: torchvision has no model {name!r}{did_you_mean(name, models.list_models())}")
    weights = models.get_model_weights(name).DEFAULT
    model = _downloading(name, lambda: models.get_model(name, weights=weights if pretrained else None), pretrained)
    return FoundModel(model, weights.transforms())


def _downloading(name: str, make: Callable[[], Any], pretrained: bool) -> Any:
    """Return what ``make`` returns; errors of a download are raised again with advice."""
    try:
        return make()
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).splitlines()[0]
        raise RuntimeError(
            f"--model: the weights of {name!r} could not be downloaded ({reason}); give a file: --checkpoint FILE"
        ) from None


def _made(made: Any, text: str) -> FoundModel:
    """Return the network, and its preprocessing if there is one, that a function of the user returned."""
    model, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model: {text} must return a torch.nn.Module, it returned {type(model).__name__}")
    return FoundModel(model, transform)


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import modules beside it
    sys.modules[path.stem] = module  # processes that read images must find its functions
    spec.loader.exec_module(module)
    return module


def _module_of_name(option: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{option} must be {FORMS}; there is no module {error.name!r}") from None
