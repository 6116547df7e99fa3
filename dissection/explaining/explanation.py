"""The explanation of one image: findings, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lwta.dissection.explaining.findings import Findings
from lwta.dissection.explaining.page import write_page


class Explanation(Findings):
    """Explanation of why the network predicts what it predicts on one image; as text, a table.

    Made by `lwta.dissection.explain`.
    """

    def to_html(self, path: str | Path, *, image: Image.Image | None = None, title: str = "Explanation") -> None:
        """Write one page with everything in it: classes, evidence by layer, heat maps. No other file, no network.

        Args:
            path: of the page.
            image: to show; None for what the network saw.
            title: of the page.
        """
        write_page(title, self.seen if image is None else image, self, path)


class Explained(NamedTuple):
    """An image and its explanation, for a page of its own in the atlas."""

    key: str
    image: Image.Image | None
    """None shows none."""
    explanation: Explanation
