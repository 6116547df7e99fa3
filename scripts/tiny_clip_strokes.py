"""What can be measured of the strokes of a handwritten digit, and the words for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Array = npt.NDArray[Any]

SIDE = 32  # digits are enlarged to this many pixels before they are measured

THIN_BELOW, THICK_ABOVE = 5.4, 5.9  # mean width of the strokes, in pixels: about a third of the digits each
UPRIGHT_WITHIN, SLANTED_BEYOND = 3.0, 6.0  # degrees
WIDE_BELOW, NARROW_ABOVE = 1.63, 1.87  # height over width of the ink: about a third of the digits each
LOOP_LEVEL = 0.4  # strokes that enclose a loop are at least this bright, as a fraction of the brightest pixel
LOOP_AREA = 4  # pixels; a smaller hole is none

LOOP_WORDS = ("no loop", "one loop", "two loops")


def stroke_width(ink: Array) -> float:
    """Mean width of the strokes of a (H, W) image of 0…1 ink, in pixels: twice the ink over the length of its outline.

    The outline's length is the total variation, which needs no threshold (coarea formula).
    """
    dy, dx = np.gradient(np.pad(ink, 1))
    return float(2 * ink.sum() / np.hypot(dx, dy).sum())


def _moments(ink: Array) -> tuple[float, float, float]:
    """Variances of x and y and their covariance over the (H, W) ink, in square pixels, y up."""
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    x, y = x - np.average(x, weights=ink), np.average(y, weights=ink) - y
    return np.average(x * x, weights=ink), np.average(y * y, weights=ink), np.average(x * y, weights=ink)


def slant(ink: Array) -> float:
    """Angle by which the (H, W) ink leans to the right of the vertical, in degrees."""
    _, yy, xy = _moments(ink)
    return float(np.degrees(np.arctan2(xy, yy)))


def elongation(ink: Array) -> float:
    """Height over width of the (H, W) ink, from its standard deviations."""
    xx, yy, _ = _moments(ink)
    return float(np.sqrt(yy / xx))


def loops(ink: Array) -> int:
    """Number of regions that the strokes of the (H, W) ink enclose."""
    background = np.pad(ink < LOOP_LEVEL * ink.max(), 1, constant_values=True)
    regions, _ = ndimage.label(background)
    return int((np.bincount(regions[background]) >= LOOP_AREA).sum()) - 1  # less the outside


def stroke_facts(image: Image.Image) -> dict[str, str]:
    """What is measured of a square image, white on black; a value between two thresholds is not spoken of."""
    enlarged = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    ink = np.asarray(enlarged) / 255.0
    facts = {"loops": LOOP_WORDS[min(loops(ink), 2)]}
    if (width := stroke_width(ink)) < THIN_BELOW or width > THICK_ABOVE:
        facts["stroke"] = "thin" if width < THIN_BELOW else "thick"
    if (ratio := elongation(ink)) < WIDE_BELOW or ratio > NARROW_ABOVE:
        facts["width"] = "wide" if ratio < WIDE_BELOW else "narrow"
    if abs(lean := slant(ink)) > SLANTED_BEYOND:
        facts["slant"] = "slanted right" if lean > 0 else "slanted left"
    elif abs(lean) < UPRIGHT_WITHIN:
        facts["slant"] = "upright"
    return facts
