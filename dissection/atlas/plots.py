"""Plots as inline SVG, in the colours of the page around them."""

from __future__ import annotations

import torch
from markupsafe import Markup
from torch import Tensor

BINS = 24
WIDTH, HEIGHT = 168, 36


def histogram(values: Tensor, title: str) -> Markup:
    """How numbers, (n,), are distributed; NaN is left out. Nothing for no number."""
    values = values[values.isfinite()].double()
    if not len(values):
        return Markup("")
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, BINS, low, high if high > low else low + 1)
    step, tallest = WIDTH / BINS, float(counts.max())
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{HEIGHT - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>'
        for i, height in enumerate((counts / tallest * HEIGHT).tolist())
        if height
    )
    told = Markup("{}: {:.3g} to {:.3g}, median {:.3g}").format(title, low, high, float(values.median()))
    return Markup(
        '<svg class="histogram" viewBox="0 0 {w} {full}" width="{w}" height="{full}" role="img" aria-label="{told}">'
        '<title>{told}</title>{bars}<text y="{full}">{low}</text>'
        '<text x="{w}" y="{full}" text-anchor="end">{high}</text></svg>'
    ).format(w=WIDTH, full=HEIGHT + 13, told=told, bars=Markup(bars), low=_short(low), high=_short(high))


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def signed_bar(value: float, largest: float) -> Markup:
    """A bar from the middle, to the right for positive and to the left for negative numbers."""
    share = 50 * min(abs(value) / largest, 1) if largest else 0
    start = 50 if value >= 0 else 50 - share
    return Markup(
        '<svg class="signed {sign}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect x="{x}" y="0" width="{w}" height="10"/><line x1="50" x2="50" y1="0" y2="10"/></svg>'
    ).format(sign="for" if value >= 0 else "against", x=f"{start:.1f}", w=f"{share:.1f}")
