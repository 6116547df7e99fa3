"""Tables and pictures of how far labels can be trusted, from what `python -m benchmarks labels` recorded."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.plot import Cloud, scatter

Row = dict[str, Any]
CHOSEN = ("soft_wpmi", "cos", "correlation", "specific", "linear", "linear, ten words")
"""Labelers of the first table; the others are in the recorded JSON."""


def label_tables(record: dict[str, Any]) -> str:
    """Every table of the record, as Markdown."""
    hidden, outputs, scale, cost = (
        [row for row in record["rows"] if row["kind"] == kind] for kind in ("hidden", "outputs", "scale", "cost")
    )
    outputs = [row for row in outputs if row["layer"] == "softmax"]
    parts = [_hidden(hidden), _judges(hidden), _outputs(outputs), _curve(record["rows"]), _scale(scale), _cost(cost)]
    return "\n\n".join(part for part in parts if part)


def example_plot(record: dict[str, Any]) -> str | None:
    """Activation against prediction for two neurons, one with a label and one that no word fits."""
    rows = [row for row in record["rows"] if row["kind"] == "example" and row["layer"] == "layer3"][:2]
    if len(rows) < 2:
        return None
    clouds = [
        Cloud(
            f"neuron {row['neuron']}, r = {row['r']:.2f}: " + ("no word fits" if row["reason"] else "labelled"),
            ("closest: " if row["reason"] else "") + ", ".join(row["words"][:3]),
            row["predicted"],
            row["activation"],
        )
        for row in rows
    ]
    title = f"{rows[0]['network']}, {rows[0]['layer']}: photographs by which the words were not chosen"
    return scatter(title, ("what the words predict", "activation"), clouds)


def _hidden(rows: list[Row]) -> str:
    """Told apart and r, a line for each layer."""
    if not rows:
        return ""
    by_layer: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in rows:
        by_layer.setdefault((row["network"], row["layer"], row["neurons"]), {})[row["labeler"]] = row
    body = [
        [
            f"{network}, {layer} ({neurons})",
            *(f"{found[name]['told_apart']:.2f} / {found[name]['r']:.2f}" for name in CHOSEN),
        ]
        for (network, layer, neurons), found in by_layer.items()
    ]
    noise = max(row["shuffled_labelled"] for row in rows)
    return (
        "How far labels can be trusted: chosen on one half of 1,649 photographs and judged on the other, mean of "
        f"{rows[0]['halves']} random halves. Share of the neurons told apart from all others of their layer by what "
        "their words predict / correlation r with it, published CLIP-Dissect (`soft_wpmi`) first. An untrained network "
        "is the control: r alone would not know it from a trained one.\n\n"
        f"{markdown_table(['layer (neurons)', *CHOSEN], body)}\n\n"
        f"With activations shuffled over the photographs, at most {noise:.1%} of the neurons of any of these layers "
        "keep a label, by any labeler. Published, on other images and networks: CLIP-Dissect r = 0.19 (ResNet-50) and "
        "0.17 (ViT-B/16), Linear Explanations 0.38 and 0.35 (arXiv 2405.06855)."
    )


def _judges(rows: list[Row]) -> str:
    """Other judges and costs, mean over the layers of trained networks."""
    trained = [row for row in rows if "untrained" not in row["network"]]
    if not trained:
        return ""
    body = []
    for name in dict.fromkeys(row["labeler"] for row in trained):
        own = [row for row in trained if row["labeler"] == name]

        def mean(figure: str, own: list[Row] = own) -> float:
            return sum(row[figure] for row in own) / len(own)

        figures = [f"{mean(figure):.2f}" for figure in ("told_apart", "r", "auprc", "f1", "probability_r")]
        body.append([name, *figures, f"{mean('labelled'):.0%}", f"{mean('words'):.1f}", f"{mean('seconds'):.1f}"])
    header = ["labeler", "told apart", "r", "AUPRC", "F1", "r with probability", "labelled", "words", "seconds"]
    return (
        "The same by every labeler, mean over the layers of the trained networks; seconds of a processor to choose and "
        f"cross-validate the labels of a layer on half of the photographs:\n\n{markdown_table(header, body)}"
    )


def _outputs(rows: list[Row]) -> str:
    """Known output neurons."""
    if not rows:
        return ""
    first, shares = rows[0], ("top1", "top5", "halves_top1", "halves_top5")
    body = [
        [
            row["labeler"],
            *(f"{row[name]:.2f}" for name in shares),
            row["shown"],
            f"{row['precision']:.0%}",
            f"{row['kept']:.0%}",
        ]
        for row in rows
    ]
    header = ["labeler", "top-1", "top-5", "top-1, halves", "top-5, halves", "shown", "right", "kept"]
    return (
        f"Output neurons of SqueezeNet after a softmax, {first['classes']} classes of which there are five photographs "
        f"or more: named right, first and within five; then of all {first['nameable']} outputs whose class is among "
        "the words, most of which no photograph shows: labels shown, how many of these are right, and the share of "
        f"the photographed classes that keep theirs.\n\n{markdown_table(header, body)}"
    )


def _curve(rows: list[Row]) -> str:
    """Precision against coverage of the default for outputs."""
    curve = [row for row in rows if row["kind"] == "curve" and row["labeler"] == "peak"]
    if not curve:
        return ""
    figures = {"labels shown that are right": "precision", "photographed classes that keep theirs": "kept"}
    body = [[name, *(f"{row[figure]:.0%}" for row in curve)] for name, figure in figures.items()]
    return (
        "The same with another threshold on r in the rule of abstention (0.20 is the default), by `peak`:\n\n"
        + markdown_table(["least r", *(f"{row['threshold']:.2f}" for row in curve)], body)
    )


def _scale(rows: list[Row]) -> str:
    """Time and memory at the size of ImageNet."""
    if not rows:
        return ""
    one = rows[0]
    body = [[row["step"], f"{row['seconds']:.0f}", f"{row['peak_bytes'] / 1e6:.0f}"] for row in rows]
    return (
        f"A layer of {one['neurons']:,} units in blocks of {one['competitors']} over {one['images']:,} images, "
        f"{one['concepts']:,} words, {one['features']} dimensions (simulated, {one['threads']} threads): its moments "
        "once, then a new list of words from the moments alone, cross-validation included.\n\n"
        + markdown_table(["step", "seconds", "MB (whole process)"], body)
    )


def _cost(rows: list[Row]) -> str:
    """What the moments add to the time of recording."""
    if not rows:
        return ""
    one, most = rows[0], max(row["ratio"] for row in rows)
    body = [
        [row["step"], f"{row['shard']:,}", f"{1e3 * row['moments_seconds']:.3g}", f"{row['ratio']:.1%}"] for row in rows
    ]
    return (
        f"Recording {one['neurons']:,} units (`{one['stage']}` of `{one['network']}`, beside the image encoder of CLIP "
        f"{one['clip']}, random weights, {one['pixels']}×{one['pixels']} pixels in batches of {one['batch']}) takes "
        f"{1e3 * one['recording_seconds']:.3g} ms an image; keeping the moments adds at most {most:.1%} to recording "
        f"(medians of {one['rounds']} rounds in one run, {one['threads']} threads).\n\n"
        + markdown_table(["activations", "images in a shard", "ms an image", "added"], body)
    )
