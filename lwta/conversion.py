"""Conversion of networks, whose activation functions competition replaces."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lwta.checks import check_competitors
from lwta.competition import CompetitionKeywords, CompetitionSettings
from lwta.layers import LWTA

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CallSites(nn.ModuleList):
    """List of layers, one for each time that a module is called in a forward pass of the module that owns it.

    torchvision's residual blocks call one ``self.relu`` after every convolution. Layers that compete have settings,
    winners and neurons of their own, so each call gets a layer of its own, in the order of the calls. Calls are counted
    by thread, and anew in every forward pass within another one. `torch.compile` compiles the owner once for each
    thread that runs it, up to ``torch._dynamo.config.recompile_limit`` of them (8).
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        self._turn = _Turn()

    @classmethod
    def install(cls, owner: nn.Module, attribute: str, layers: Sequence[nn.Module]) -> None:
        """Make ``owner`` call one of ``layers`` after the other in the place of its module ``attribute``."""
        if not isinstance(getattr(owner, attribute), cls):
            owner.register_forward_pre_hook(_Start(attribute))
            owner.register_forward_hook(_Finish(attribute), always_call=True)
        setattr(owner, attribute, cls(layers))

    def start(self) -> None:
        """Begin a forward pass of the owner: the next call is its first."""
        self._turn.outer = (*self._turn.outer, self._turn.next)
        self._turn.next = 0

    def finish(self) -> None:
        """End a forward pass of the owner, complete or not; an outer one, if any, goes on where it was."""
        *outer, self._turn.next = self._turn.outer or (0,)
        self._turn.outer = tuple(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the layer whose turn it is."""
        number = self._turn.next
        self._turn.next = (number + 1) % len(self)
        return self[number](x)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to copy or pickle, without the threads' turns."""
        return {name: value for name, value in self.__dict__.items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._turn = _Turn()


class _Turn(threading.local):
    """Number of the next call in this thread, and those of the forward passes around the present one.

    Both have values from the start, so that `torch.compile` sees one state, not two, in every thread.
    """

    def __init__(self) -> None:
        self.next = 0
        self.outer: tuple[int, ...] = ()


def convert(
    model: nn.Module,
    competitors: int,
    *,
    replace: type[nn.Module] | tuple[type[nn.Module], ...] = (nn.ReLU, nn.GELU),
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    example_input: Tensor | None = None,
    **settings: Unpack[CompetitionKeywords],
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
        **settings: ``temperature``, ``eval_mode``, ``dim`` and ``track_kl``, as in `LWTA`.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: ``competitors`` is not an int, or a keyword is unknown.
        ValueError: ``competitors``, ``temperature`` or ``eval_mode`` is out of range; U does not divide a width, which
            is named; there is nothing to replace; a pattern matches nothing; the model does not run on the example.

    Example:
        >>> model = convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), competitors=4)
        >>> model[1]
        LWTA(competitors=4)
    """
    check_competitors(competitors)
    dim = CompetitionSettings(**settings).dim
    names = _select(model, replace, include, exclude)
    widths = _widths_by_call(model, names, example_input, dim)
    _check_widths(widths, competitors)
    for name, calls in widths.items():
        owner_name, _, attribute = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        layers = [LWTA(competitors, **settings) for _ in calls]
        if len(layers) > 1:
            CallSites.install(owner, attribute, layers)
        else:
            setattr(owner, attribute, layers[0])
    return model


class _Hook:
    """Hook around the forward pass of an owner of call sites; a class, so that it can be pickled.

    `_Start` and `_Finish` are two functions to `torch.compile`, which limits how often it compiles one.
    """

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def sites(self, owner: nn.Module) -> CallSites | None:
        """Return the call sites of the owner; None if another module took their place."""
        found = getattr(owner, self.attribute)
        return found if isinstance(found, CallSites) else None


class _Start(_Hook):
    """Hook before the forward pass."""

    def __call__(self, owner: nn.Module, *_: Any) -> None:
        if (sites := self.sites(owner)) is not None:
            sites.start()


class _Finish(_Hook):
    """Hook after the forward pass."""

    def __call__(self, owner: nn.Module, *_: Any) -> None:
        if (sites := self.sites(owner)) is not None:
            sites.finish()


def _select(
    model: nn.Module,
    replace: type[nn.Module] | tuple[type[nn.Module], ...],
    include: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
) -> list[str]:
    """Return the names of the modules to replace; a module with several names is listed under each."""
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
    """Return the names that one of the patterns matches; raise ValueError if a pattern matches none."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{argument} pattern {pattern!r} matches no activation; they are {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _widths_by_call(
    model: nn.Module, names: list[str], example_input: Tensor | None, dim: int | None
) -> dict[str, list[int]]:
    """Return for each name the width of the competing axis at each of its calls in one forward pass.

    A module may have several names; a stand-in for each name distinguishes its calls.
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
    """Stand-in for an activation, which notes the width of its inputs and returns them."""

    def __init__(self, widths: list[int], dim: int | None) -> None:
        super().__init__()
        self.widths = widths
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        dim = (1 if x.ndim == 4 else -1) if self.dim is None else self.dim
        self.widths.append(x.shape[dim])
        return x


def _run_without_storage(model: nn.Module, example_input: Tensor | None) -> None:
    """Run one forward pass that computes shapes only."""
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
    """Return a batch of one that the model is likely to take, on the device and in the type of its parameters."""
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
    """Raise ValueError if no activation is called, or U does not divide the width of one."""
    if not widths:
        raise ValueError("none of the selected activations is called in a forward pass; nothing to convert")
    bad = [f"{name} ({width} units)" for name, calls in widths.items() for width in calls if width % competitors]
    if bad:
        raise ValueError(
            f"competitors={competitors} does not divide the width of {', '.join(dict.fromkeys(bad))}; choose another "
            f"number or leave these modules out with exclude"
        )
