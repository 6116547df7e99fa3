"""Plots in pages."""

from __future__ import annotations

from lwta.dissection.pages import plots


def test_histogram_counts_every_value() -> None:
    plot = str(plots.histogram([0.0, 0.5, 1.0, 1.0], "a <title>", bins=2))
    assert plot.count("<rect") == 2
    assert 'height="21.3"' in plot  # one value of the lower half beside three of the upper
    assert "a &lt;title&gt;: 4 values from 0 to 1, median 1" in plot


def test_muted_values_stand_on_the_others() -> None:
    plot = str(plots.histogram([0.0, 1.0], "r", bins=2, muted=[0.0]))
    assert plot.count('<rect class="muted"') == 1
    assert '<rect class="muted" x="0.5" y="0.0" width="119.0" height="32.0"/>' in plot  # on one of the same size
    assert "r: 3 values" in plot
