"""Plots as inline SVG in the colours of the page, without a library or network."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, FOOT = 240, 64, 16


def histogram(
    values: Sequence[float],
    title: str,
    bins: int = 24,
    bounds: tuple[float, float] | None = None,
    muted: Sequence[float] = (),
) -> Markup:
    """Return a histogram of the values, with the two ends written below and the median marked.

    Args:
        values: finite numbers; without any there is a line of text instead of a plot.
        title: title of the plot, which screen readers say.
        bins: number of bars.
        bounds: ends of the axis; None for the smallest and the largest value.
        muted: further values, which stand on the others in a lighter colour; the median is that of all.

    Example:
        >>> print(histogram([], "scores"))
        <p class="none">nothing to plot</p>
    """
    every = [*values, *muted]
    if not every:
        return Markup('<p class="none">nothing to plot</p>')
    low, high = bounds or (min(every), max(every))
    width = (high - low) or 1.0
    lower, upper = [0] * bins, [0] * bins
    for counts, some in ((lower, values), (upper, muted)):
        for value in some:
            counts[min(max(int((value - low) / width * bins), 0), bins - 1)] += 1
    step, tallest = WIDTH / bins, max(map(sum, zip(lower, upper, strict=True)))
    bars = []
    for place, (below, above) in enumerate(zip(lower, upper, strict=True)):
        foot = max(HEIGHT * below / tallest, 1) if below else 0.0
        bars += [_bar(place * step, step, 0, foot)] * bool(below)
        bars += [_bar(place * step, step, foot, HEIGHT * above / tallest, ' class="muted"')] * bool(above)
    median = sorted(every)[len(every) // 2]
    at = min(max((median - low) / width, 0), 1) * WIDTH
    said = f"{title}: {len(every)} values from {min(every):.3g} to {max(every):.3g}, median {median:.3g}"
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{''.join(bars)}"
        f'<path class="axis" d="M0 {HEIGHT + 0.5}H{WIDTH}"/><path class="median" d="M{at:.1f} 0V{HEIGHT}"/>'
        f'<text x="0" y="{HEIGHT + 13}">{low:.3g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{high:.3g}</text></svg>'
    )


def _bar(x: float, width: float, foot: float, height: float, attributes: str = "") -> str:
    height = max(height, 1)
    return (
        f'<rect{attributes} x="{x + 0.5:.1f}" y="{HEIGHT - foot - height:.1f}" width="{width - 1:.1f}"'
        f' height="{height:.1f}"/>'
    )
