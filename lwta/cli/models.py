"""Networks by name: timm's, torchvision's, or what a function of one's own returns."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lwta.dissection.preprocessing import Transform
from lwta.dissection.words import did_you_mean, some

FORMS = "timm:NAME, torchvision:NAME, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"
STATE_KEYS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


class FoundModel(NamedTuple):
    """A network, and its preprocessing where that is known."""

    model: nn.Module
    transform: Transform | None
    """None where the network itself carries it, as timm's do, or where nobody said."""


def find_model(text: str, checkpoint: Path | None = None, *, weights: bool = True) -> FoundModel:
    """The network that ``--model`` names.

    Args:
        text: "timm:NAME" or "torchvision:NAME", with their pretrained weights, which are downloaded, if there is no
            ``checkpoint``; or "FILE.py:FUNCTION" or "PACKAGE.MODULE:FUNCTION" of a function that takes nothing and
            returns a network, or a network and its preprocessing.
        checkpoint: a file of weights to load into it, of torch.save or safetensors; a state dict, also under
            "state_dict", "model_state_dict" or "model", and with the prefixes of DistributedDataParallel and compile.
        weights: whether any are needed; without, nothing is downloaded.

    Raises:
        ValueError: there is no such network, or the weights are not its.
        FileNotFoundError: there is no such file.
        RuntimeError: the pretrained weights cannot be downloaded.
    """
    source, colon, name = text.rpartition(":")
    if not (source and colon and name):
        raise ValueError(f"--model must be {FORMS}, got {text!r}")
    pretrained = weights and checkpoint is None
    if source == "timm":
        found = FoundModel(_timm(name, pretrained), None)
    elif source == "torchvision":
        found = _torchvision(name, pretrained)
    else:
        found = _made(find_function("--model", text)(), text)
    if checkpoint is not None:
        load_checkpoint(found.model, checkpoint)
    return found


def find_function(option: str, text: str) -> Callable[..., Any]:
    """The function or object of "FILE.py:NAME" or "PACKAGE.MODULE:NAME".

    Raises:
        ValueError: there is no such module, or nothing of that name in it.
        FileNotFoundError: there is no such file.
    """
    source, _, name = text.rpartition(":")
    module = _module_of_file(Path(source)) if source.endswith(".py") else _module_of_name(option, source)
    if not callable(getattr(module, name, None)):
        choices = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise ValueError(f"{option}: {source} has no function {name!r}{did_you_mean(name, choices)}")
    function: Callable[..., Any] = getattr(module, name)
    return function


def load_checkpoint(model: nn.Module, checkpoint: Path) -> None:
    """Load weights into a network, every one of them: see `find_model`."""
    state = _state_of(checkpoint)
    wanted = model.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    problems = {"are missing": missing, "are unknown to the network": unknown, "have another shape": sorted(shapes)}
    told = [f"{len(names)} {problem}: {some(names, 3)}" for problem, names in problems.items() if names]
    if told:
        raise ValueError(
            f"--checkpoint: the weights in {checkpoint} are not this network's; of its {len(wanted)} tensors "
            f"{'; '.join(told)}. A network that needs arguments: --model FILE.py:FUNCTION"
        )
    model.load_state_dict(dict(state))


def _timm(name: str, pretrained: bool) -> nn.Module:
    import timm

    base = name.split(".")[0]
    if not timm.is_model(base):
        raise ValueError(f"--model: timm has no model {name!r}{did_you_mean(base, timm.list_models())}")
    with_weights: nn.Module = _downloading(name, lambda: timm.create_model(name, pretrained=pretrained), pretrained)
    return with_weights


def _torchvision(name: str, pretrained: bool) -> FoundModel:
    from torchvision import models

    if name not in models.list_models():
        raise ValueError(f"--model: torchvision has no model {name!r}{did_you_mean(name, models.list_models())}")
    weights = models.get_model_weights(name).DEFAULT
    model = _downloading(name, lambda: models.get_model(name, weights=weights if pretrained else None), pretrained)
    return FoundModel(model, weights.transforms())


def _downloading(name: str, make: Callable[[], Any], pretrained: bool) -> Any:
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
    sys.path.insert(0, str(path.resolve().parent))  # what lies beside the file can be imported by it
    sys.modules[path.stem] = module  # so that processes that read images find its functions
    spec.loader.exec_module(module)
    return module


def _module_of_name(option: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{option} must be {FORMS}; there is no module {error.name!r}") from None


def _state_of(checkpoint: Path) -> Mapping[str, Tensor]:
    """The state dict in a file, without wrappers and prefixes."""
    if not checkpoint.is_file():
        raise FileNotFoundError(f"--checkpoint: there is no file {checkpoint}")
    if checkpoint.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(checkpoint)
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--checkpoint: {checkpoint} is no file of weights alone: {reason}") from None
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"--checkpoint: {checkpoint} holds no state dict, neither as such nor under {some(STATE_KEYS)}"
        )
    return {_without(PREFIXES, name): value for name, value in content.items()}


def _without(prefixes: Sequence[str], name: str) -> str:
    while name.startswith(tuple(prefixes)):
        name = next(name[len(prefix) :] for prefix in prefixes if name.startswith(prefix))
    return name
