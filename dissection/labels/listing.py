"""Lists of labels: rows of a CSV file, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lwta.dissection.labels.label import WORDS_SHOWN, Label
from lwta.support.exports import escaped_cell
from lwta.support.tables import Column, text_table


def csv_rows(labels: Sequence[Label], runner_ups: int) -> list[list[str]]:
    """Return header and rows of the file that `lwta.dissection.Dissection.to_csv` writes."""
    header = ["layer", "neuron", "concept", "score", "wins", "reason", "words", "r", "r_low", "r_high"]
    header += ["rank", "told_apart", "null_percentile"]
    for place in range(1, runner_ups + 1):
        header += [f"runner_up_{place}", f"runner_up_{place}_score"]
    rows = [header]
    for label in labels:
        cells = [escaped_cell(label.layer), str(label.neuron), escaped_cell(label.concept or ""), _number(label.score)]
        cells += ["" if label.wins is None else str(label.wins), *_trust_cells(label)]
        for concept, score in label.runner_ups:
            cells += [escaped_cell(concept), _number(score)]
        rows.append(cells + [""] * (len(header) - len(cells)))
    return rows


def _trust_cells(label: Label) -> list[str]:
    """Cells from the reason on to the percentile."""
    words = "; ".join(f"{word} {_number(weight)}" for word, weight in label.words)
    numbers = [_number(value) for value in (label.r, label.r_low, label.r_high)]
    place = ["", ""] if label.rank is None else [str(label.rank), str(label.told_apart).lower()]
    return [label.reason or "", escaped_cell(words), *numbers, *place, _number(label.null_percentile)]


def label_table(labels: Sequence[Label], rows: int | None) -> str:
    """Return labels as a table for the terminal: the first ``rows``, or all (None)."""
    shown = labels[:rows]
    columns = [
        Column("neuron", [str(label.neuron) for label in shown], right=True),
        Column("stands for", [label.text(WORDS_SHOWN) for label in shown]),
        Column("r", [_number(label.r, 2) or "–" for label in shown], right=True),
        Column("95 %", [_interval(label) for label in shown]),
        Column("rank", [str(label.rank or "–") for label in shown], right=True),
        Column("wins", ["–" if label.wins is None else str(label.wins) for label in shown], right=True),
        Column("runner-ups", [", ".join(concept for concept, _ in label.runner_ups) for label in shown]),
    ]
    if all(label.wins is None for label in shown):
        del columns[5]
    left = len(labels) - len(shown)
    return text_table(columns) + (f"\n… and {left} neurons more" if left else "")


def _interval(label: Label) -> str:
    """Interval of r."""
    return "–" if label.r_low != label.r_low else f"{label.r_low:.2f}…{label.r_high:.2f}"


def _number(value: float, digits: int = 5) -> str:
    """Number with a fixed count of digits behind the point; an empty text for NaN."""
    return "" if value != value else f"{value:.{digits}f}"
