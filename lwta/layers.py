"""Layers whose units compete, drop-in for activations, `nn.Linear`, `nn.Conv2d` and timm's Mlp."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.utils.hooks import RemovableHandle

from lwta import functional
from lwta.checks import check_competitors, check_eval_mode, check_temperature, check_width
from lwta.winners import Winners, dense_as

if TYPE_CHECKING:
    from typing_extensions import Unpack

EvalMode = Literal["sample", "argmax", "expected"]


class CompetitionKeywords(TypedDict, total=False):
    """Keywords that every layer with competition takes, and `lwta.convert`; see `LWTA` for their meaning."""

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
        check_competitors(competitors)
        self.competitors = competitors
        self.temperature = settings.temperature
        self.eval_mode = settings.eval_mode
        self.dim = self._DEFAULT_DIM if settings.dim is None else settings.dim
        self.track_kl = settings.track_kl
        self.kl = None
        self._winners_hooks: OrderedDict[int, Callable[[Competition, Winners], None]] = OrderedDict()

    @property
    def uses_expected_output(self) -> bool:
        """Whether the layer, in its present mode, outputs the expectation over winners in place of one draw."""
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
        """Whether neither backward nor the KL needs the responses, and the fused kernel serves this type and device."""
        half = x.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(x.device.type)
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


class LWTA(Competition):
    """Stochastic Local Winner-Takes-All, an activation function without parameters.

    Blocks of ``competitors`` consecutive units (feature maps, for 4-D input, independently at every position) compete;
    one winner per block, drawn from the softmax of the responses, passes its response on, and the others output 0.

    Args:
        competitors: U ≥ 1; 1 is the identity.
        temperature: τ of the straight-through gradient, from 1.2e-38 to 8.5e37.
        eval_mode: "sample" (a network trained with sampled winners can lose much under argmax), "argmax", or
            "expected", which is deterministic too, but not sparse.
        dim: axis that competes; None means 1 for 4-D input (N, C, H, W), else −1. Networks with channels last in 4-D,
            such as Swin, need −1.
        track_kl: compute the KL to uniform at each forward, for `lwta.kl_divergence`.
        inplace: accepted because builders of activation layers pass it; the input is never overwritten, since
            backward needs the losers' responses.

    Shape:
        Input and output the same, any shape; U divides the competing axis.

    Raises:
        TypeError: ``competitors`` is not an int.
        ValueError: ``competitors``, ``temperature`` or ``eval_mode`` is out of range.

    Example:
        >>> layer = LWTA(competitors=4)
        >>> y = layer(torch.randn(2, 8))
        >>> (y != 0).sum(dim=1)
        tensor([2, 2])
    """

    def __init__(
        self,
        competitors: int = 2,
        *,
        temperature: float = 1.67,
        eval_mode: EvalMode = "sample",
        dim: int | None = None,
        track_kl: bool = False,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        self._set_competition(competitors, CompetitionSettings(temperature, eval_mode, dim, track_kl))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the competition among ``x``, of the same shape; it raises as `compete` does."""
        return self._as_node(x) if isinstance(x, Proxy) else self.compete(x)

    def extra_repr(self) -> str:
        """Return the settings of the competition."""
        return self.describe()


class LWTALinear(nn.Linear, Competition):
    """`nn.Linear` whose output units compete: y = competition(x·Wᵀ + b).

    Parameters and state-dict keys are those of `nn.Linear`.

    Args:
        in_features: width of the input.
        out_features: width of the output. U must divide it.
        competitors: U.
        bias: whether the layer has one.
        device: where the parameters lie, as in `nn.Linear`.
        dtype: type of the parameters, as in `nn.Linear`.
        **settings: ``temperature``, ``eval_mode``, ``dim`` and ``track_kl``, as in `LWTA`, but ``dim=None`` is the last
            axis.

    Raises:
        TypeError: ``competitors`` is not an int, or a keyword is unknown.
        ValueError: ``competitors`` does not divide ``out_features``, or ``temperature`` or ``eval_mode`` is out of
            range.

    Example:
        >>> LWTALinear(16, 8, competitors=2)(torch.randn(3, 16)).shape
        torch.Size([3, 8])
    """

    _DEFAULT_DIM = -1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        competitors: int = 2,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Unpack[CompetitionKeywords],
    ) -> None:
        check_width("out_features", out_features, competitors)
        super().__init__(in_features, out_features, bias, device, dtype)
        self._set_competition(competitors, CompetitionSettings(**settings))

    def forward(self, input: Tensor) -> Tensor:
        """Map (…, in_features) to (…, out_features), of which 1/U are not 0; it raises as `compete` does."""
        if isinstance(input, Proxy):
            return self._as_node(input)
        if self._responses_unused(input) and self.dim in (-1, input.ndim - 1):
            return self._compete_fused(input, self.weight, self.bias)
        return self.compete(super().forward(input))

    def extra_repr(self) -> str:
        """Return the settings of the plain layer, then those of the competition."""
        return f"{super().extra_repr()}, {self.describe()}"


class LWTAConv2d(nn.Conv2d, Competition):
    """`nn.Conv2d` whose feature maps compete at every position of the output.

    Parameters and state-dict keys are those of `nn.Conv2d`, and so are the arguments but for ``competitors`` and the
    settings.

    Args:
        in_channels: feature maps of the input.
        out_channels: feature maps of the output. U must divide it.
        kernel_size: as in `nn.Conv2d`.
        stride: as in `nn.Conv2d`.
        padding: as in `nn.Conv2d`.
        dilation: as in `nn.Conv2d`.
        groups: as in `nn.Conv2d`.
        bias: as in `nn.Conv2d`.
        padding_mode: as in `nn.Conv2d`.
        competitors: U.
        device: as in `nn.Conv2d`.
        dtype: as in `nn.Conv2d`.
        **settings: ``temperature``, ``eval_mode``, ``dim`` and ``track_kl``, as in `LWTA`; ``dim=None`` is the channel
            axis.

    Raises:
        TypeError: ``competitors`` is not an int, or a keyword is unknown.
        ValueError: ``competitors`` does not divide ``out_channels``, or ``temperature`` or ``eval_mode`` is out of
            range.

    Example:
        >>> LWTAConv2d(3, 8, 3, padding=1, competitors=4)(torch.randn(1, 3, 5, 5)).shape
        torch.Size([1, 8, 5, 5])
    """

    _DEFAULT_DIM = -3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        competitors: int = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Unpack[CompetitionKeywords],
    ) -> None:
        check_width("out_channels", out_channels, competitors)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._set_competition(competitors, CompetitionSettings(**settings))

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H′, W′), of which 1/U are not 0; raise as `compete`."""
        if isinstance(input, Proxy):
            return self._as_node(input)
        if self._responses_unused(input) and self._is_linear_over(input):
            y = self._compete_fused(input.movedim(-3, -1), self.weight.flatten(1), self.bias)
            return y.movedim(-1, -3)
        return self.compete(super().forward(input))

    def _is_linear_over(self, input: Tensor) -> bool:
        """Whether this convolution is a linear layer on the positions of ``input``, which lie channels last."""
        pointwise = self.kernel_size == (1, 1) and self.stride == (1, 1) and self.padding in ((0, 0), "valid", "same")
        rows = input.movedim(-3, -1).is_contiguous()
        return pointwise and rows and self.groups == 1 and self.dim in (-3, input.ndim - 3)

    def extra_repr(self) -> str:
        """Return the settings of the plain layer, then those of the competition."""
        return f"{super().extra_repr()}, {self.describe()}"


class LWTAMlp(nn.Module):
    """Two-layer perceptron of transformer blocks with competition between: fc1 → LWTA → drop → fc2 → drop.

    State-dict keys are those of timm's ``Mlp``. The blocks compete along the last axis. Between the layers only the
    winners are kept, in training and inference (`lwta.functional.mlp`), unless something needs the dense tensor: hooks
    on a part, dropout between the layers, ``track_kl``, a part that was replaced, or a trace by `torch.fx`.

    Args:
        in_features: width of the input.
        hidden_features: width between the layers; None means ``in_features``. U must divide it.
        out_features: width of the output; None means ``in_features``.
        competitors: U.
        bias: whether both linear layers have one.
        drop: dropout probability after the competition and after fc2.
        **settings: ``temperature``, ``eval_mode``, ``dim`` and ``track_kl``, as in `LWTA`, but ``dim=None`` is the last
            axis.

    Raises:
        TypeError: ``competitors`` is not an int, or a keyword is unknown.
        ValueError: ``competitors`` does not divide ``hidden_features``, or ``temperature`` or ``eval_mode`` is out of
            range.

    Example:
        >>> LWTAMlp(16, 64, competitors=8)(torch.randn(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        competitors: int = 2,
        bias: bool = True,
        drop: float = 0.0,
        **settings: Unpack[CompetitionKeywords],
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        check_width("hidden_features", hidden_features, competitors)
        self.fc1 = nn.Linear(in_features, hidden_features, bias)
        competition = CompetitionSettings(**settings)
        self.act = LWTA(competitors, **asdict(replace(competition, dim=-1) if competition.dim is None else competition))
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, out_features or in_features, bias)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) to (…, out_features).

        Raises:
            TypeError: ``x`` is not a dense tensor of floating-point numbers, or not of the type of the weights.
            ValueError: the last axis of ``x`` is not ``in_features`` wide.
        """
        if isinstance(x, Proxy) or not self._is_plain(x):
            return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))
        mode, seed = self.act.draw(x.device)
        y, winners = functional.mlp(
            x,
            self.fc1.weight,
            self.fc1.bias,
            self.fc2.weight,
            self.fc2.bias,
            self.act.competitors,
            mode=mode,
            temperature=self.act.temperature,
            seed=seed,
        )
        self.act.announce(winners)
        return self.drop2(y)

    def _is_plain(self, x: Tensor) -> bool:
        """Whether nothing needs the dense tensor between the layers.

        A layer that was replaced, a hook on one, a dropout that drops, the expected output, and the KL need it.
        """
        parts = (self.fc1, self.act, self.drop1, self.fc2)
        watched = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        built_in = type(self.fc1) is nn.Linear and type(self.act) is LWTA and type(self.fc2) is nn.Linear
        drops = self.training and self.drop1.p > 0
        plain = built_in and not watched and not drops and not self.act.track_kl and not self.act.uses_expected_output
        return plain and self.act.dim in (-1, x.ndim - 1)
