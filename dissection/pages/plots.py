"""Plots as inline SVG in the colours of the page, without a library or network."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, FOOT = 240, 64, 16


def histogram(values: Sequence[float], title: str, bins: int = 24, bounds: tuple[float, float] | None = None) -> Markup:
    """Return a histogram of the values, with the two ends written below and the median marked.

    Args:
        values: finite numbers; without any there is a line of text instead of a plot.
        title: title of the plot, which screen readers say.
        bins: number of bars.
        bounds: ends of the axis; None for the smallest and the largest value.

    Example:
        >>> print(histogram([], "scores"))
        <p class="none">nothing to plot</p>
    """
    if not values:
        return Markup('<p class="none">nothing to plot</p>')
    low, high = bounds or (min(values), max(values))
    width = (high - low) or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(max(int((value - low) / width * bins), 0), bins - 1)] += 1
    step, tallest = WIDTH / bins, max(counts)
    bars = [_bar(place * step, step, HEIGHT * count / tallest) for place, count in enumerate(counts) if count]
    median = sorted(values)[len(values) // 2]
    at = min(max((median - low) / width, 0), 1) * WIDTH
    said = f"{title}: {len(values)} values from {min(values):.3g} to {max(values):.3g}, median {median:.3g}"
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{''.join(bars)}"
        f'<path class="axis" d="M0 {HEIGHT + 0.5}H{WIDTH}"/><path class="median" d="M{at:.1f} 0V{HEIGHT}"/>'
        f'<text x="0" y="{HEIGHT + 13}">{low:.3g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{high:.3g}</text></svg>'
    )


def _bar(x: float, width: float, height: float) -> str:
    height = max(height, 1)
    return f'<rect x="{x + 0.5:.1f}" y="{HEIGHT - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}"/>'
