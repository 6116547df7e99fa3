"""Hooks that listen to layers while a network runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from lwta.competition import Competition
from lwta.dissection.recording.activations import Activations, Pool, PooledOutput, PooledWinners, resolve_pool
from lwta.dissection.recording.layers import Layer, as_layers, of_competition
from lwta.support.text import did_you_mean
from lwta.winners import Winners


class Tap:
    """Hook that keeps the pooled output of one layer at the last forward pass."""

    def __init__(self, name: str, pool: Pool, class_token: bool) -> None:
        self.name = name
        self.pool = pool
        """Pooling that the user asked for; once the layer ran, the one that "auto" stands for."""
        self.axis = -1
        """Axis of the neurons in the layer's output, known once the layer ran."""
        self._asked = pool
        self._class_token = class_token
        self._outputs: list[PooledOutput | PooledWinners | Winners] = []

    def on_winners(self, layer: Competition, winners: Winners) -> None:
        """Keep the winners of a competitive layer: the hook that `lwta.layers.Competition` calls.

        Raises:
            ValueError: the pooling is unknown, or does not fit the layer.
        """
        ndim = winners.values.ndim
        self.axis = layer.dim if layer.dim is not None else _unit_axis(ndim)
        self.pool = resolve_pool(self._asked, ndim, self._class_token)
        # under torch.compile a GPU may sum in any order: keep the raw winners and pool eagerly in `take`
        self._outputs.append(winners if torch.compiler.is_compiling() else PooledWinners.of(winners, self.pool))

    def on_output(self, layer: nn.Module, inputs: object, output: object) -> None:
        """Keep the output of any other layer: a forward hook of torch.

        Raises:
            TypeError: the output is not a tensor of 2, 3 or 4 dimensions.
            ValueError: the pooling is unknown, or does not fit the layer.
        """
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            seen = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(
                f"layer {self.name!r} must give a tensor of 2, 3 or 4 dimensions to be dissected, not {seen}"
            )
        self.axis = _unit_axis(output.ndim)
        self.pool = resolve_pool(self._asked, output.ndim, self._class_token)
        self._outputs.append(PooledOutput.of(output, self.pool))

    def take(self, keys: Sequence[str]) -> Activations:
        """Return the activations of the last forward pass, which was on the images with these keys, and forget them.

        Raises:
            ValueError: the layer did not run exactly once, ran on another number of images, or gave NaN or infinity.
        """
        outputs, self._outputs = self._outputs, []
        if len(outputs) != 1:
            raise ValueError(
                f"layer {self.name!r} ran {len(outputs)} times in one forward of the network, but must run once; "
                "lwta.convert gives each call of a shared activation a layer of its own"
            )
        (output,) = outputs
        activations = (PooledWinners.of(output, self.pool) if isinstance(output, Winners) else output).fetch()
        if len(activations) != len(keys):
            raise ValueError(f"layer {self.name!r} gave {len(activations)} rows for {len(keys)} images")
        bad = activations.not_finite()
        if len(bad):
            raise ValueError(f"layer {self.name!r} gave a value that is not finite on image {keys[int(bad[0])]!r}")
        return activations


def _unit_axis(ndim: int) -> int:
    """Axis of the neurons: 1 in outputs (N, D, H, W), else the last."""
    return 1 if ndim == 4 else -1


def find_layers(model: nn.Module, layers: str | Iterable[str]) -> dict[str, nn.Module]:
    """Find the modules with these names, as in ``model.named_modules()``; return them by name.

    Raises:
        ValueError: no module has that name (the message lists close matches), or ``layers`` is empty.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("layers must name at least one layer, got none")
    modules = {name: module for name, module in model.named_modules() if name}
    for name in names:
        if name not in modules:
            hint = did_you_mean(name, modules) or f"; the model has {', '.join(list(modules)[:10])}, …"
            raise ValueError(f"layers must be names of modules of the model, {name!r} is none{hint}")
    return {name: modules[name] for name in names}


def choose_layers(model: nn.Module, layers: str | Layer | Iterable[str | Layer]) -> list[Layer]:
    """Choose layers of a model, by names as in ``model.named_modules()`` and with functions of their outputs.

    Raises:
        ValueError: no module has that name, ``layers`` is empty or names a layer twice, or there is no such function,
            or none for a layer with competition.
        TypeError: a layer is neither a text nor a `Layer`.
    """
    chosen = as_layers(layers, [name for name, _ in model.named_modules() if name])
    modules = find_layers(model, [layer.name for layer in chosen])
    for layer in chosen:
        if isinstance(modules[layer.name], Competition) and layer.transform not in ("auto", "identity"):
            raise ValueError(of_competition(layer))
    return chosen


@contextmanager
def tapped(model: nn.Module, layers: str | Iterable[str], pool: Pool) -> Iterator[list[Tap]]:
    """Context in which each of the layers has a `Tap` on it; the taps are in the order of the layers.

    Raises:
        ValueError: a layer is unknown.
    """
    class_token = any(name.split(".")[-1] in ("cls_token", "class_token") for name, _ in model.named_parameters())
    taps = []
    with ExitStack() as stack:
        for name, module in find_layers(model, layers).items():
            tap = Tap(name, pool, class_token)
            if isinstance(module, Competition):
                handle = module.register_winners_hook(tap.on_winners)
            else:
                handle = module.register_forward_hook(tap.on_output)
            stack.callback(handle.remove)
            taps.append(tap)
        yield taps
