"""Base class of the layers whose units compete, and the settings of a competition."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.utils.hooks import RemovableHandle

from lwta import functional
from lwta.checks import check_competitors, check_eval_mode, check_temperature
from lwta.winners import Winners, dense_as

EvalMode = Literal["sample", "argmax", "expected"]


class CompetitionKeywords(TypedDict, total=False):
    """Keywords of every layer with competition and of `lwta.convert`; see `LWTA` for their meaning."""

    temperature: float
    eval_mode: EvalMode
    dim: int | None
    track_kl: bool


@dataclass(frozen=True)
class CompetitionSettings:
    """Settings of a competition, with their defaults; see `LWTA` for their meaning.

    Raises:
        ValueError: ``temperature`` or ``eval_mode`` is out of range.
    """

    temperature: float = 1.67
    eval_mode: EvalMode = "sample"
    dim: int | None = None
    track_kl: bool = False

    def __post_init__(self) -> None:
        check_eval_mode(self.eval_mode)
        check_temperature(self.temperature)


class Competition(nn.Module):
    """Base class of the competitive layers: settings, winners hooks, and the divergence from a fair competition.

    `torch.fx.symbolic_trace` records a layer as one node that calls it, so that a traced network draws winners anew at
    every run, follows the layer's settings, and calls its winners hooks.

    Example:
        >>> from lwta import LWTA
        >>> isinstance(LWTA(2), Competition), LWTA(2).competitors
        (True, 2)

    Attributes:
        competitors: U, the number of units in a block.
        temperature: τ of the straight-through gradient; `lwta.set_temperature` sets it for a whole network.
        eval_mode: how winners are found in eval mode, "sample" or "argmax"; in training they are always sampled. With
            "expected" nobody wins: every unit passes its expected output on, `lwta.functional.expected`.
        dim: axis that competes; None means 1 for 4-D, else −1.
        track_kl: whether each forward computes `kl`.
        kl: with ``track_kl``, the KL to uniform of the last forward, a 0-dim tensor with gradient; else None.
    """

    competitors: int
    temperature: float
    eval_mode: EvalMode
    dim: int | None
    track_kl: bool
    kl: Tensor | None

    _DEFAULT_DIM: int | None = None

    def _set_competition(self, competitors: int, settings: CompetitionSettings) -> None:
        """Set the attributes of the competition; raise TypeError or ValueError for impossible ``competitors``."""
        check_competitors(competitors)
        self.competitors = competitors
        self.temperature = float(settings.temperature)
        self.eval_mode = settings.eval_mode
        self.dim = self._DEFAULT_DIM if settings.dim is None else settings.dim
        self.track_kl = settings.track_kl
        self.kl = None
        self._winners_hooks: OrderedDict[int, Callable[[Competition, Winners], None]] = OrderedDict()

    @property
    def uses_expected_output(self) -> bool:
        """True if the layer, in its present mode, outputs the expectation over winners in place of one draw."""
        return not self.training and self.eval_mode == "expected"

    def draw(self, device: torch.device) -> tuple[functional.WinnerMode, Tensor | None]:
        """Return the mode in which a forward pass finds its winners, and a new seed if they are sampled, else None.

        With eval_mode="expected" nothing is drawn; hooks get the argmax winners.
        """
        mode: functional.WinnerMode = "sample" if self.training or self.eval_mode == "sample" else "argmax"
        return mode, functional.draw_seed(device) if mode == "sample" else None

    def announce(self, winners: Winners) -> None:
        """Call the winners hooks with the winners of a forward pass: see `register_winners_hook`."""
        for hook in self._winners_hooks.values():
            hook(self, winners)

    def compete(self, h: Tensor) -> Tensor:
        """Return the output of the competition among the responses ``h``, of the same shape.

        Raises:
            TypeError: ``h`` is not a dense tensor of floating-point numbers.
            ValueError: U does not divide the competing axis of ``h``.
        """
        mode, seed = self.draw(h.device)
        if self.track_kl:
            self.kl = functional.kl_to_uniform(h, self.competitors, dim=self.dim)
        if self._winners_hooks:
            winners = functional.winners(h, self.competitors, mode=mode, dim=self.dim, seed=seed)
            self.announce(winners)
            relaxed = h.requires_grad and torch.is_grad_enabled()  # backward needs the relaxation
            if h.is_cpu and not relaxed and not self.uses_expected_output:
                return dense_as(h, winners, self.dim)
        if self.uses_expected_output:
            return functional.expected(h, self.competitors, dim=self.dim)
        return functional.lwta(h, self.competitors, mode=mode, temperature=self.temperature, dim=self.dim, seed=seed)

    def _compete_fused(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the dense output for rows of ``x`` by the fused kernel; see `_responses_unused`."""
        mode, seed = self.draw(x.device)
        winners = functional.linear_winners(x, weight, bias, self.competitors, mode=mode, seed=seed)
        self.announce(winners)
        return winners.to_dense()

    def _responses_unused(self, x: Tensor) -> bool:
        """Return whether nothing needs the dense responses and the fused kernel serves this type and device."""
        lowered = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
        half = x.dtype in (torch.float16, torch.bfloat16) or lowered
        return (
            x.is_cuda and half and not torch.is_grad_enabled() and not self.track_kl and not self.uses_expected_output
        )

    def _as_node(self, x: Proxy) -> Any:
        """Record a call of this layer in the graph that is being traced."""
        name = x.tracer.path_of_module(self)  # type: ignore[attr-defined]
        if not name:
            raise ValueError(f"{type(self).__name__} is traced as a part of a network: trace nn.Sequential(layer)")
        return x.tracer.create_proxy("call_module", name, (x,), {})

    def register_winners_hook(self, hook: Callable[[Competition, Winners], None]) -> RemovableHandle:
        """Register ``hook(layer, winners)``, which each forward pass of the layer calls with its winners.

        The winners come from the competition itself: they are right where a winner's response is negative or 0, which
        no reading of the output can be. The blocks are the last axis: (N, H, W, B) for a 4-D (N, C, H, W) layer.

        Returns:
            A handle whose ``remove()`` takes the hook off again.
        """
        handle = RemovableHandle(self._winners_hooks)
        self._winners_hooks[handle.id] = hook
        return handle

    def describe(self) -> str:
        """Return the settings that differ from the defaults, for the layer's repr."""
        defaults = asdict(CompetitionSettings(dim=self._DEFAULT_DIM))
        changed = [f"{name}={value!r}" for name in defaults if (value := getattr(self, name)) != defaults[name]]
        return ", ".join([f"competitors={self.competitors}", *changed])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to copy or pickle, without hooks and without the KL of the last forward pass."""
        return {**self.__dict__, "kl": None, "_winners_hooks": OrderedDict()}
