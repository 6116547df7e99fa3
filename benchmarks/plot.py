"""A bar chart as SVG, in the colours of the reader's theme: groups of bars, one bar for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("#1f77b4", "#17becf", "#d62728", "#ff9896", "#7f7f7f", "#c7c7c7")
BAR, GAP, HEIGHT, TOP, LEFT = 12, 18, 220, 54, 46
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#24292f}line{stroke:#8c959f;stroke-width:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)


def bars(title: str, unit: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """The chart as the text of an SVG file.

    Args:
        title: says what is shown.
        unit: of the values.
        groups: names along the axis.
        series: by name, a value for each group; None for a bar that is not there. At most six.
    """
    largest = max(value for values in series.values() for value in values if value is not None)
    step = _step(largest)
    top = step * -(-largest // step)
    group_width = BAR * len(series) + GAP
    width, height = LEFT + group_width * len(groups) + GAP, TOP + HEIGHT + 30

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - value / top)

    parts = [_text(LEFT, 14, f"{title} ({unit})")]
    parts += _legend(list(series))
    for tick in range(int(top / step) + 1):
        level = y(tick * step)
        parts.append(f'<line x1="{LEFT}" x2="{width}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(_text(LEFT - 6, level + 4, f"{tick * step:g}", "end"))
    for group, name in enumerate(groups):
        start = LEFT + GAP + group * group_width
        parts.append(_text(start + BAR * len(series) / 2, TOP + HEIGHT + 18, name, "middle"))
        for place, (label, values) in enumerate(series.items()):
            value = values[group]
            if value is not None:
                parts.append(
                    f'<rect x="{start + place * BAR}" y="{y(value):.1f}" width="{BAR - 2}" '
                    f'height="{TOP + HEIGHT - y(value):.1f}" fill="{COLOURS[place]}">'
                    f"<title>{escape(label)}, {escape(name)}: {value:.3g} {unit}</title></rect>"
                )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


class Cloud(NamedTuple):
    """Points of a scatter plot with two lines of text above them."""

    title: str
    subtitle: str
    x: Sequence[float]
    y: Sequence[float]


def scatter(title: str, axes: tuple[str, str], clouds: Sequence[Cloud]) -> str:
    """Scatter plots side by side as the text of an SVG file.

    Args:
        title: says what is shown.
        axes: names of the horizontal and of the vertical axis.
        clouds: points of each plot.
    """
    side, gap, top = 250, 40, 66
    width, height = LEFT + len(clouds) * (side + gap), top + side + 34
    parts = [_text(LEFT - 30, 16, title)]
    for place, cloud in enumerate(clouds):
        left = LEFT + place * (side + gap)
        parts += [_text(left, 38, cloud.title), _text(left, 54, cloud.subtitle)]
        parts.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#8c959f"/>')
        xs, ys = (_spread(values, side - 12) for values in (cloud.x, cloud.y))
        parts += [
            f'<circle cx="{left + 6 + x:.1f}" cy="{top + side - 6 - y:.1f}" r="2.2" fill="{COLOURS[0]}" opacity=".55"/>'
            for x, y in zip(xs, ys, strict=True)
        ]
        parts.append(_text(left + side / 2, top + side + 20, axes[0], "middle"))
    middle = top + side / 2
    parts.append(f'<g transform="rotate(-90 {LEFT - 14} {middle})">{_text(LEFT - 14, middle, axes[1], "middle")}</g>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _spread(values: Sequence[float], length: float) -> list[float]:
    """Values moved and scaled to 0…length."""
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1) * length for value in values]


def _step(largest: float) -> float:
    """A round number that divides the axis into four to ten parts."""
    step = 1e-3
    while largest / step > 10:
        for factor in (2.0, 2.5, 2.0):
            step *= factor
            if largest / step <= 10:
                break
    return step


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], LEFT
    for place, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{COLOURS[place]}"/>')
        parts.append(_text(x + 14, 35, name))
        x += 26 + int(6.2 * len(name))
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
