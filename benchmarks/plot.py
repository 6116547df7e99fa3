"""A bar chart as SVG, in the colours of the reader's theme: groups of bars, one bar for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

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
