"""Write the atlas of a recorded dissection: static pages with every layer and every neuron.

Examples:
  lwta report store --probe photos.zip --out atlas
  lwta report store --probe photos.zip --concepts mine.txt --top 9 --title "My network" --out atlas --json -
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lwta.cli._options import add_store, open_dissection
from lwta.cli._output import add_json, emit
from lwta.dissection.atlas.writing import FIGURES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta report`."""
    add_store(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the atlas")
    parser.add_argument("--title", default="What the neurons stand for", help="heading of the overview (%(default)s)")
    parser.add_argument("--top", type=int, default=6, metavar="N", help="images shown for each neuron (%(default)s)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the atlas, and return the exit code."""
    dissection = open_dissection(arguments)
    page = dissection.to_report(arguments.out, title=arguments.title, top=arguments.top)
    layers = json.loads(page.with_name(FIGURES).read_text(encoding="utf-8"))
    verdicts = [layer["verdict"] for layer in layers if layer["verdict"] is not None]
    text = "\n".join([f"The atlas: {page}  (open it in a browser)", *verdicts])
    emit({"index": str(page), "layers": layers}, text, arguments.json)
    return 0
