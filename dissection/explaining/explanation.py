"""Explanation of one image: its findings, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lwta.dissection.explaining.findings import Findings
from lwta.dissection.explaining.page import write_page


class Explanation(Findings):
    """Explanation of why the network predicts what it predicts on one image; as text, a table.

    `lwta.dissection.explain` and `lwta.dissection.Dissection.explain` make it.

    Example:
        >>> red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> dissection = dissect(network, "2", [("red", red), ("blue", blue)], clip=embeddings,
        ...                      concepts=embeddings.concepts, transform=torchvision.transforms.ToTensor(),
        ...                      abstain=False, progress=False)
        >>> print(dissection.explain(red, class_names=["warm", "fresh", "cold"]))
        predicted: warm (57.6%)
        <BLANKLINE>
        2: 1 neurons active
        contribution  activation  neuron  concept
              +1.000      +1.000       0  a red thing
    """

    def to_html(self, path: str | Path, *, image: Image.Image | None = None, title: str = "Explanation") -> None:
        """Write one page with everything in it: classes, evidence by layer, heat maps. It needs no other file.

        Args:
            path: path of the page.
            image: picture to show; None for what the network saw.
            title: title of the page.

        Raises:
            OSError: the page cannot be written.
        """
        write_page(title, self.seen if image is None else image, self, path)


class Explained(NamedTuple):
    """Explained image, for a page of its own in the atlas.

    A sequence of them is the argument ``explained`` of `lwta.dissection.Dissection.to_report`.

    Example:
        >>> explanation = Explanation(predicted=0, class_name="ship", probability=0.9, logit=2.0, target=0,
        ...                           target_name="ship", versus=None, versus_name=None, explained_logit=2.0, draws=1,
        ...                           probabilities=[], evidence={})
        >>> Explained("ship.jpg", None, explanation).explanation.class_name
        'ship'
    """

    key: str
    """Key of the image, which is the title of its page."""
    image: Image.Image | None
    """Picture to show; None for a page without one."""
    explanation: Explanation
