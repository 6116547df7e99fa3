"""The operations that are counted: those of the library, forward and backward, and beside each what it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

COMPETITORS = (2, 8, 24)
"""Numbers of competitors that are counted."""

DEIT_T, DEIT_B = (201_728, 192), (50_432, 768)
"""Tokens and width of 1,024 images through DeiT-T and of 256 through DeiT-B; the hidden layer is four times wider."""

STAGE = (64, 192, 56, 56)
"""A stage of a convolutional network, NCHW."""

PROBE = (20_000, 768, 512, 2_000)
"""Images, units, dimensions of an embedding and concepts of a dissection."""

TAU = 0.67

Make = Callable[..., Tensor]
"""Makes a tensor of a shape, ``make(*shape, dtype=…)``, of the type that is counted by default."""


class Subject(NamedTuple):
    """An operation to count."""

    operation: str
    direction: str
    """"forward" or "backward"."""
    shape: tuple[int, ...]
    elements: int
    """Responses h that it deals with; figures are by these."""
    call: Callable[[Make], Any]
    """Runs it on tensors that it makes, and returns its results."""


def subjects(competitors: int) -> Iterator[Subject]:
    """Yield every operation for a number of competitors.

    Competitions of rows are counted at one size: what they cost an element does not depend on it. Similarities of
    concepts know no competitors and are counted once, with the first number.
    """
    yield from _competitions((DEIT_T[0], 4 * DEIT_T[1]), competitors)
    for rows, width in (DEIT_T, DEIT_B):
        yield from _layers(rows, width, 4 * width, competitors)
        yield from _perceptrons(rows, width, 4 * width, competitors)
    yield from _competitions(STAGE, competitors)
    yield from _sums(competitors)
    if competitors == COMPETITORS[0]:
        yield from _similarities()


def _seed(make: Make) -> Tensor:
    return make(dtype=torch.int64)


def _compact(make: Make, rows: int, blocks: int) -> tuple[Tensor, Tensor]:
    return make(rows, blocks), make(rows, blocks, dtype=torch.uint8)


def _competitions(shape: tuple[int, ...], U: int) -> Iterator[Subject]:
    """Yield competitions of responses in memory, and GELU in their place."""
    ops, aten = torch.ops.lwta, torch.ops.aten
    elements, positions = 1, (shape[0], *shape[2:])
    for length in shape:
        elements *= length

    def subject(operation: str, direction: str, call: Callable[[Make], Any]) -> Subject:
        return Subject(operation, direction, shape, elements, call)

    for mode in ("sample", "argmax"):
        yield subject(f"lwta {mode}", "forward", lambda t, m=mode: ops.lwta(t(*shape), U, m, TAU, 1, _seed(t)))
        yield subject(
            f"lwta {mode}",
            "backward",
            lambda t, m=mode: ops.lwta_backward(t(*shape), t(*shape), U, m, TAU, 1, _seed(t)),
        )
        yield subject(f"winners {mode}", "forward", lambda t, m=mode: ops.winners(t(*shape), U, m, 1, _seed(t)))
    index = (*positions, shape[1] // U)
    yield subject("winners", "backward", lambda t: ops.winners_backward(t(*index), t(*index, dtype=torch.uint8), U, 1))
    yield subject("kl_to_uniform", "forward", lambda t: ops.kl_to_uniform(t(*shape), U, 1))
    yield subject(
        "kl_to_uniform", "backward", lambda t: ops.kl_to_uniform_backward(t(dtype=torch.float32), t(*shape), U, 1)
    )
    yield subject("gelu", "forward", lambda t: aten.gelu(t(*shape)))
    yield subject("gelu", "backward", lambda t: aten.gelu_backward(t(*shape), t(*shape)))


def _linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a linear layer, as PyTorch computes them."""
    return grad @ weight, grad.t() @ x, grad.sum(0)


def _layers(rows: int, features: int, units: int, U: int) -> Iterator[Subject]:
    """Yield a linear layer with competition, fused and not, and the layer that its winners feed."""
    ops, aten = torch.ops.lwta, torch.ops.aten
    blocks = units // U

    def subject(operation: str, direction: str, call: Callable[[Make], Any]) -> Subject:
        return Subject(operation, direction, (rows, features, units), rows * units, call)

    def first(t: Make) -> tuple[Tensor, Tensor, Tensor]:
        return t(rows, features), t(units, features), t(units)

    for mode in ("sample", "argmax"):
        yield subject(
            f"linear_winners {mode}", "forward", lambda t, m=mode: ops.linear_winners(*first(t), U, m, _seed(t))
        )
    yield subject(
        "linear_winners",
        "backward",
        lambda t: ops.linear_winners_backward(
            t(rows, blocks), t(rows, features), t(units, features), t(rows, blocks, dtype=torch.uint8), U
        ),
    )
    yield subject(
        "LWTALinear evaluation", "forward", lambda t: _dense(ops.linear_winners(*first(t), U, "argmax", None), U)
    )
    yield subject(
        "unfused linear and lwta", "forward", lambda t: ops.lwta(aten.linear(*first(t)), U, "sample", TAU, 1, _seed(t))
    )
    yield subject(
        "unfused linear and lwta argmax",
        "forward",
        lambda t: ops.lwta(aten.linear(*first(t)), U, "argmax", TAU, 1, None),
    )
    yield subject(
        "unfused linear and lwta",
        "backward",
        lambda t: _linear_backward(
            ops.lwta_backward(t(rows, units), t(rows, units), U, "sample", TAU, 1, _seed(t)),
            t(rows, features), t(units, features),
        ),
    )  # fmt: skip
    yield subject(
        "winners_linear",
        "forward",
        lambda t: ops.winners_linear(*_compact(t, rows, blocks), t(features, units), t(features), U),
    )
    yield subject(
        "winners_linear",
        "backward",
        lambda t: ops.winners_linear_backward(t(rows, features), *_compact(t, rows, blocks), t(features, units), U),
    )
    yield subject("unfused linear", "forward", lambda t: aten.linear(t(rows, units), t(features, units), t(features)))
    yield subject(
        "unfused linear", "backward", lambda t: _linear_backward(t(rows, features), t(rows, units), t(features, units))
    )


def _dense(winners: tuple[Tensor, Tensor], competitors: int) -> Tensor:
    """Dense output of winners, as `Winners.to_dense` makes it."""
    from lwta.winners import Winners

    return Winners(*winners, competitors).to_dense()


def _perceptrons(rows: int, width: int, hidden: int, U: int) -> Iterator[Subject]:
    """Yield a perceptron with competition, fused and not, and with GELU."""
    ops, aten = torch.ops.lwta, torch.ops.aten

    def subject(operation: str, direction: str, call: Callable[[Make], Any]) -> Subject:
        return Subject(operation, direction, (rows, width, hidden), rows * hidden, call)

    def layers(t: Make) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return t(rows, width), t(hidden, width), t(hidden), t(width, hidden), t(width)

    def unfused(t: Make, between: Callable[[Tensor], Tensor]) -> Tensor:
        x, weight1, bias1, weight2, bias2 = layers(t)
        return aten.linear(between(aten.linear(x, weight1, bias1)), weight2, bias2)

    def unfused_backward(t: Make, between: Callable[[Tensor, Tensor], Tensor]) -> Any:
        x, weight1, _, weight2, _ = layers(t)
        grad_y, *of_second = _linear_backward(t(rows, width), t(rows, hidden), weight2)
        return _linear_backward(between(grad_y, t(rows, hidden)), x, weight1), of_second

    def backward(t: Make) -> Any:
        x, weight1, bias1, weight2, _ = layers(t)
        return ops.mlp_backward(
            t(rows, width), x, weight1, bias1, weight2, *_compact(t, rows, hidden // U), U, "sample", TAU, _seed(t)
        )

    yield subject("mlp", "forward", lambda t: ops.mlp(*layers(t), U, "sample", TAU, _seed(t)))
    yield subject("mlp", "backward", backward)
    yield subject("unfused mlp", "forward", lambda t: unfused(t, lambda h: ops.lwta(h, U, "sample", TAU, 1, _seed(t))))
    yield subject(
        "unfused mlp",
        "backward",
        lambda t: unfused_backward(t, lambda g, h: ops.lwta_backward(g, h, U, "sample", TAU, 1, _seed(t))),
    )
    yield subject("gelu mlp", "forward", lambda t: unfused(t, aten.gelu))
    yield subject("gelu mlp", "backward", lambda t: unfused_backward(t, aten.gelu_backward))


def _sums(U: int) -> Iterator[Subject]:
    """Yield the sum of embeddings by winner."""
    images, units, features, _ = PROBE
    yield Subject(
        "winners_sum",
        "forward",
        PROBE,
        images * units,
        lambda t: torch.ops.lwta.winners_sum(*_compact(t, images, units // U), t(images, features), U),
    )


def _similarities() -> Iterator[Subject]:
    """Yield the similarities of dissection, over images and concepts."""
    images, units, features, concepts = PROBE
    ops = torch.ops.lwta

    def subject(operation: str, call: Callable[[Make], Any]) -> Subject:
        return Subject(operation, "forward", PROBE, images * concepts, call)

    vector = {"dtype": torch.float32}
    for power in (1, 3):
        yield subject(
            f"concept_similarity {power}",
            lambda t, p=power: ops.concept_similarity(
                t(images, features), t(concepts, features), t(images, units, **vector), t(concepts, **vector), p
            ),
        )
    yield subject(
        "concept_logsumexp", lambda t: ops.concept_logsumexp(t(images, features), t(concepts, features), 10.0)
    )
    yield subject(
        "concept_log_p",
        lambda t: ops.concept_log_p(
            t(images, features), t(concepts, features), t(images, **vector),
            t(units, 100, dtype=torch.int64), t(100, **vector), 10.0,
        ),
    )  # fmt: skip
