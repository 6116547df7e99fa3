"""Pictures of the demo's atlas: python scripts/atlas_screenshots.py lwta-demo docs (takes Chromium)."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

PAGES = {
    "overview": ("index.html", (1100, 900)),
    "layer": ("layer-02.html", (1280, 860)),
    "neuron": ("layer-02.html#neuron-0", (480, 1080)),
    "image": ("image-01.html", (1100, 860)),
}

FRAME = 120  # pixels of a window that the browser sometimes leaves empty at the bottom


def photograph(program: str, address: str, size: tuple[int, int], path: Path) -> None:
    """A page as PNG, with few colours so that it is small."""
    width, height = size
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        subprocess.run(
            [
                *(program, "--headless=new", "--no-sandbox", "--hide-scrollbars"),
                *(
                    f"--screenshot={raw}",
                    f"--window-size={width},{height + FRAME}",
                    f"--user-data-dir={folder}/profile",
                    address,
                ),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        with Image.open(raw) as image:
            image.convert("RGB").crop((0, 0, width, height)).quantize(128).save(path, optimize=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atlas", type=Path, help="folder that `lwta demo` wrote")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        parser.error(f"no browser found: none of {', '.join(names)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (page, size) in PAGES.items():
        file, _, fragment = page.partition("#")
        # a card is opened in the page itself: following its address would scroll, and the picture begins at the top
        html = (arguments.atlas / file).read_text(encoding="utf-8")
        copy = arguments.atlas / "photographed.html"
        copy.write_text(html.replace(f'id="{fragment}"', f'id="{fragment}" open', 1), encoding="utf-8")
        photograph(program, copy.resolve().as_uri(), size, arguments.out / f"atlas-{name}.png")
        copy.unlink()


if __name__ == "__main__":
    main()
