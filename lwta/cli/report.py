"""Write the atlas of a recorded dissection: static pages with every layer and every neuron.

Examples:
  lwta report store --probe photos.zip --out atlas
  lwta report store --probe photos.zip --concepts mine.txt --top 9 --title "My network" --out atlas --json -
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lwta.cli.naming import add_store, open_dissection
from lwta.dissection.atlas.atlas import overview


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lwta report`."""
    add_store(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the atlas")
    parser.add_argument("--title", default="What the neurons stand for", help="heading of the overview (%(default)s)")
    parser.add_argument("--top", type=int, default=6, metavar="N", help="images shown for each neuron (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write paths and figures of the overview there; - for stdout")


def run(arguments: argparse.Namespace) -> int:
    """Write the atlas; returns the exit code."""
    dissection = open_dissection(arguments)
    page = dissection.to_report(arguments.out, title=arguments.title, top=arguments.top)
    print(f"The atlas: {page}  (open it in a browser)", file=sys.stderr if arguments.json == "-" else sys.stdout)
    if arguments.json is not None:
        layers = overview(dissection)
        text = json.dumps({"index": str(page), "layers": layers}, indent=2, ensure_ascii=False) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            Path(arguments.json).write_text(text, encoding="utf-8")
    return 0
