"""Competition in the place of the activation functions of a network that exists."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lwta.checks import check_competitors
from lwta.layers import LWTA, EvalMode


class CallSites(nn.ModuleList):
    """One layer for each time that a module is called in a forward pass of the module that owns it.

    torchvision's residual blocks call one ``self.relu`` after every convolution. Layers that compete have settings,
    winners and neurons of their own, so each call gets its own, in the order of the calls.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        self._next = 0

    def start(self) -> None:
        """The owner begins a forward pass: the next call is its first."""
        self._next = 0

    def forward(self, x: Tensor) -> Tensor:
        """Output of the layer whose turn it is."""
        layer = self[self._next]
        self._next = (self._next + 1) % len(self)
        return layer(x)


def convert(
    model: nn.Module,
    competitors: int,
    *,
    replace: type[nn.Module] | tuple[type[nn.Module], ...] = (nn.ReLU, nn.GELU),
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    example_input: Tensor | None = None,
    temperature: float = 1.67,
    eval_mode: EvalMode = "sample",
    dim: int | None = None,
    track_kl: bool = False,
    inplace: bool = False,
) -> nn.Module:
    """Replace activation modules by `LWTA`, in place; parameters and state-dict keys stay as they are.

    The model is run once on a tensor without storage, to see where its activations are called and how wide they are.
    A module that its owner calls several times becomes a list with one layer for each call, ``relu.0``, ``relu.1``, …
    Activations called as functions (``F.relu``) are not modules and stay.

    Args:
        model: any network.
        competitors: U; must divide the width of every activation that is replaced.
        replace: classes of activation modules to replace.
        include: glob patterns of module names, such as ``"layer4.*"``; None means all.
        exclude: glob patterns of module names to leave as they are.
        example_input: batch that ``model`` takes; None means one image of the size in the model's
            ``pretrained_cfg`` (timm), or 3×224×224, or one row for a model that starts with a linear layer.
        temperature: as in `LWTA`, like the keywords that follow.
        eval_mode: as in `LWTA`.
        dim: as in `LWTA`.
        track_kl: as in `LWTA`.
        inplace: as in `LWTA`.

    Returns:
        ``model`` itself.

    Raises:
        ValueError: a width that U does not divide, named; nothing to replace; a pattern that matches nothing; a model
            that does not run on the example.

    Example:
        >>> model = convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), competitors=4)
        >>> model[1]
        LWTA(competitors=4)
    """
    check_competitors(competitors)
    names = _select(model, replace, include, exclude)
    widths = _widths_by_call(model, names, example_input, dim)
    _check_widths(widths, competitors)

    def layer() -> LWTA:
        return LWTA(
            competitors, temperature=temperature, eval_mode=eval_mode, dim=dim, track_kl=track_kl, inplace=inplace
        )

    for name, calls in widths.items():
        owner_name, _, attribute = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        if len(calls) > 1:
            sites = CallSites([layer() for _ in calls])
            owner.register_forward_pre_hook(_StartCallSites(sites))
            setattr(owner, attribute, sites)
        else:
            setattr(owner, attribute, layer())
    return model


class _StartCallSites:
    """Forward pre-hook of the owner; a class, so that the model can be copied and pickled."""

    def __init__(self, sites: CallSites) -> None:
        self.sites = sites

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        self.sites.start()


def _select(
    model: nn.Module,
    replace: type[nn.Module] | tuple[type[nn.Module], ...],
    include: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
) -> list[str]:
    """Names of the modules to replace; a module with several names is listed under each."""
    found = [
        name for name, module in model.named_modules(remove_duplicate=False) if name and isinstance(module, replace)
    ]
    classes = replace if isinstance(replace, tuple) else (replace,)
    if not found:
        raise ValueError(f"model has no module of replace={tuple(c.__name__ for c in classes)}; nothing to convert")
    included = found if include is None else _matching("include", include, found)
    excluded = [] if exclude is None else _matching("exclude", exclude, found)
    return [name for name in included if name not in excluded]


def _matching(argument: str, patterns: str | Sequence[str], names: list[str]) -> list[str]:
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{argument} pattern {pattern!r} matches no activation; they are {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _widths_by_call(
    model: nn.Module, names: list[str], example_input: Tensor | None, dim: int | None
) -> dict[str, list[int]]:
    """For each name, the width of the competing axis at each of its calls in one forward pass.

    A module under several names is called through one object; stand-ins of its own for each name tell them apart.
    """
    widths: dict[str, list[int]] = {name: [] for name in names}
    originals = {name: model.get_submodule(name) for name in names}
    training = {module: module.training for module in model.modules()}
    try:
        for name in names:
            model.set_submodule(name, _Observer(widths[name], dim))
        model.eval()
        _run_without_storage(model, example_input)
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)
        for module, mode in training.items():
            module.training = mode
    return {name: calls for name, calls in widths.items() if calls}


class _Observer(nn.Module):
    """Stands in for an activation and notes the width of what passes."""

    def __init__(self, widths: list[int], dim: int | None) -> None:
        super().__init__()
        self.widths = widths
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        dim = (1 if x.ndim == 4 else -1) if self.dim is None else self.dim
        self.widths.append(x.shape[dim])
        return x


def _run_without_storage(model: nn.Module, example_input: Tensor | None) -> None:
    """One forward pass that computes shapes only."""
    example = _example_input(model) if example_input is None else example_input
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        try:
            model(mode.from_tensor(example))
        except Exception as error:
            raise ValueError(
                f"model does not run on an input of shape {tuple(example.shape)} ({error}); give convert an "
                f"example_input that it takes"
            ) from error


def _example_input(model: nn.Module) -> Tensor:
    """A batch of one that the model is likely to take, on the device and in the type of its parameters."""
    config = getattr(model, "pretrained_cfg", None) or {}
    parameter = next(model.parameters(), torch.empty(0))
    leaf = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if isinstance(leaf, nn.Linear):
        shape: tuple[int, ...] = (leaf.in_features,)
    elif isinstance(leaf, nn.Conv2d) and not config:
        shape = (leaf.in_channels, 224, 224)
    else:
        shape = tuple(config.get("input_size", (3, 224, 224)))
    return torch.empty((1, *shape), device=parameter.device, dtype=parameter.dtype)


def _check_widths(widths: dict[str, list[int]], competitors: int) -> None:
    if not widths:
        raise ValueError("none of the selected activations is called in a forward pass; nothing to convert")
    bad = [f"{name} ({width} units)" for name, calls in widths.items() for width in calls if width % competitors]
    if bad:
        raise ValueError(
            f"competitors={competitors} does not divide the width of {', '.join(dict.fromkeys(bad))}; choose another "
            f"number or leave these modules out with exclude"
        )
