"""What is told of labels is what was recorded, figure by figure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import label_report, report

Row = dict[str, Any]
LABELERS = ("correlation", "cos", "linear", "linear, ten words", "peak", "soft_wpmi", "specific")
SHOWN = ("soft_wpmi", "cos", "correlation", "specific", "linear", "linear, ten words")
LAYERS = (("ResNet-56", "layer2", 32), ("ResNet-56", "layer3", 64), ("ResNet-56, untrained", "layer3", 64))
THRESHOLDS = (0.0, 0.2, 0.5)
SCALE: Row = {"images": 1_280_000, "neurons": 2_048, "competitors": 8, "concepts": 20_000, "features": 512}
RECORDED: Row = {"network": "resnet50", "stage": "layer4", "clip": "ViT-B-32", "pixels": 224, "batch": 32, "rounds": 5}


class Figures:
    """Figures that are all different, so that none can be taken for another."""

    def __init__(self) -> None:
        self._next = 0

    def share(self) -> float:
        """The next of 0.0013, 0.0026, …."""
        self._next += 1
        return round(0.0013 * self._next, 4)

    def of(self, *names: str) -> Row:
        return {name: self.share() for name in names}


def hidden(figures: Figures) -> list[Row]:
    names = ("told_apart", "r", "auprc", "f1", "iou", "probability_r", "labelled", "words", "shuffled_labelled")
    return [
        {
            "kind": "hidden",
            "network": network,
            "layer": layer,
            "neurons": neurons,
            "labeler": labeler,
            "halves": 5,
            **figures.of(*names, "seconds"),
        }
        for network, layer, neurons in LAYERS
        for labeler in LABELERS
    ]


def outputs(figures: Figures) -> list[Row]:
    names = ("top1", "top5", "halves_top1", "halves_top5", "precision", "kept")
    return [
        {
            "kind": "outputs",
            "network": "SqueezeNet",
            "layer": function,
            "labeler": labeler,
            "classes": 25,
            "nameable": 261,
            "shown": 10 + number,
            **figures.of(*names),
            **({} if function == "softmax" else {"halves_top1": None, "halves_top5": None}),
        }
        for function in ("softmax", "logits")
        for number, labeler in enumerate(LABELERS)
    ]


def curve(figures: Figures) -> list[Row]:
    return [
        {"kind": "curve", "labeler": labeler, "threshold": threshold, "shown": 9, **figures.of("precision", "kept")}
        for labeler in ("soft_wpmi", "peak")
        for threshold in THRESHOLDS
    ]


def scale() -> list[Row]:
    steps = ("moments", "correlation", "specific", "linear")
    return [
        {"kind": "scale", "step": step, **SCALE, "seconds": 100.4 + k, "peak_bytes": (7 + k) * 10**8, "threads": 3}
        for k, step in enumerate(steps)
    ]


def cost() -> list[Row]:
    forms = {"dense, in memory": 32, "dense, in a store": 4096, "winners, in a store": 4096}
    ratios = (0.0456, 0.0123, 0.0071)
    return [
        {
            "kind": "cost",
            "step": step,
            **RECORDED,
            "neurons": 2048,
            "shard": shard,
            "recording_seconds": 0.2,
            "moments_seconds": round(0.2 * ratio, 6),
            "ratio": ratio,
            "threads": 3,
        }
        for (step, shard), ratio in zip(forms.items(), ratios, strict=True)
    ]


def examples() -> list[Row]:
    return [
        {
            "kind": "example",
            "network": "ResNet-56",
            "layer": "layer3",
            "neuron": neuron,
            "words": words,
            "reason": reason,
            "r": r,
            "predicted": [0.0, 1.0, 2.0],
            "activation": [0.5, 0.0, 1.5],
        }
        for neuron, words, reason, r in ((7, ["wolf", "fur"], None, 0.634), (41, ["spoon"], "not its own", 0.071))
    ]


@pytest.fixture
def record(tmp_path: Path) -> Row:
    """A small record of all kinds, as it is read from a file."""
    figures = Figures()
    rows = [*hidden(figures), *examples(), *outputs(figures), *curve(figures), *scale(), *cost()]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"suite": "labels", "machine": {}, "rows": rows}))
    return json.loads(path.read_text())


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows of every Markdown table."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in block.splitlines())
        found.append((header, rows))
    return found


def kind(record: Row, name: str, **wanted: Any) -> list[Row]:
    rows = [row for row in record["rows"] if row["kind"] == name]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_every_kind_has_its_table(record: Row) -> None:
    text = label_report.label_tables(record)
    firsts = ["layer (neurons)", "labeler", "labeler", "least r", "step", "activations"]
    assert [header[0] for header, _ in tables(text)] == firsts
    assert all(len(row) == len(header) for header, rows in tables(text) for row in rows)
    assert label_report.label_tables({"rows": []}) == ""
    for name, first in {"outputs": "labeler", "curve": "least r", "scale": "step", "cost": "activations"}.items():
        ((header, _),) = tables(label_report.label_tables({"rows": kind(record, name)}))
        assert header[0] == first


def test_layers_have_their_own_figures(record: Row) -> None:
    text = label_report.label_tables(record)
    header, rows = tables(text)[0]
    assert header == ["layer (neurons)", *SHOWN]
    assert [row[0] for row in rows] == [f"{network}, {layer} ({neurons})" for network, layer, neurons in LAYERS]
    for (network, layer, _), cells in zip(LAYERS, rows, strict=True):
        for labeler, cell in zip(SHOWN, cells[1:], strict=True):
            (row,) = kind(record, "hidden", network=network, layer=layer, labeler=labeler)
            assert [float(part) for part in cell.split(" / ")] == pytest.approx(
                [row["told_apart"], row["r"]], abs=0.0051
            )
    most = max(row["shuffled_labelled"] for row in kind(record, "hidden"))
    assert f"at most {100 * most:.1f}% of the neurons" in text
    assert "mean of 5 random halves" in text


def test_judges_are_means_over_the_trained_networks(record: Row) -> None:
    header, rows = tables(label_report.label_tables(record))[1]
    columns = ("told_apart", "r", "auprc", "f1", "probability_r", "labelled", "words", "seconds")
    assert len(header) == 1 + len(columns)
    assert [row[0] for row in rows] == list(LABELERS)
    for labeler, *cells in rows:
        first, second = kind(record, "hidden", network="ResNet-56", labeler=labeler)
        for column, cell in zip(columns, cells, strict=True):
            wanted = (first[column] + second[column]) / 2
            percent = cell.endswith("%")
            rounding = 0.0501 if column in ("words", "seconds") else 0.00501
            assert float(cell.rstrip("%")) / (100 if percent else 1) == pytest.approx(wanted, abs=rounding)


def test_outputs_are_those_after_a_softmax(record: Row) -> None:
    text = label_report.label_tables(record)
    _, rows = tables(text)[2]
    assert [row[0] for row in rows] == list(LABELERS)
    for labeler, *shares, shown, right, kept in rows:
        (row,) = kind(record, "outputs", layer="softmax", labeler=labeler)
        names = ("top1", "top5", "halves_top1", "halves_top5")
        assert [float(share) for share in shares] == pytest.approx([row[name] for name in names], abs=0.0051)
        assert int(shown) == row["shown"]
        assert [float(cell.rstrip("%")) for cell in (right, kept)] == pytest.approx(
            [100 * row["precision"], 100 * row["kept"]], abs=0.501
        )
    assert "25 classes of which" in text
    assert "all 261 outputs" in text


def test_the_curve_is_that_of_peak(record: Row) -> None:
    header, (precision, kept) = tables(label_report.label_tables(record))[3]
    assert header == ["least r", "0.00", "0.20", "0.50"]
    for cells, name in ((precision, "precision"), (kept, "kept")):
        wanted = [100 * row[name] for row in kind(record, "curve", labeler="peak")]
        assert [float(cell.rstrip("%")) for cell in cells[1:]] == pytest.approx(wanted, abs=0.501)


def test_time_and_memory_are_those_of_each_step(record: Row) -> None:
    text = label_report.label_tables(record)
    _, rows = tables(text)[4]
    assert rows == [
        ["moments", "100", "700"],
        ["correlation", "101", "800"],
        ["specific", "102", "900"],
        ["linear", "103", "1000"],
    ]
    assert (
        "2,048 units in blocks of 8 over 1,280,000 images, 20,000 words, 512 dimensions (simulated, 3 threads)" in text
    )


def test_what_moments_add_is_the_most_that_any_form_of_recording_adds(record: Row) -> None:
    text = label_report.label_tables(record)
    _, rows = tables(text)[5]
    assert rows == [
        ["dense, in memory", "32", "9.12", "4.6%"],
        ["dense, in a store", "4,096", "2.46", "1.2%"],
        ["winners, in a store", "4,096", "1.42", "0.7%"],
    ]
    assert "Recording 2,048 units (`layer4` of `resnet50`, beside the image encoder of CLIP ViT-B-32," in text
    assert "224×224 pixels in batches of 32)" in text
    assert "takes 200 ms an image; keeping the moments adds at most 4.6% to recording" in text
    assert "(medians of 5 rounds in one run, 3 threads)" in text


def test_the_picture_is_of_the_two_neurons(record: Row) -> None:
    picture = label_report.example_plot(record)
    for text in ("neuron 7, r = 0.63: labelled", "neuron 41, r = 0.07: no word fits", "wolf, fur", "closest: spoon"):
        assert text in picture
    assert label_report.example_plot({"rows": examples()[:1]}) is None


def test_a_record_stands_in_the_readme(record: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(record))
    text = report.with_figures(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert text == f"before\n{report.BEGIN}\n{label_report.label_tables(record)}\n{report.END}\nafter\n"
    assert list(report.plots()) == ["labels.svg"]
