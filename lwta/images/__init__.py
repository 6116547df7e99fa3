"""Images for training and for probing: read from folders, archives, datasets, or anything that yields them."""

from lwta.images.base import Probe, Sample
from lwta.images.labelled import Images, open_images
from lwta.images.opening import open_probe

__all__ = ["Images", "Probe", "Sample", "open_images", "open_probe"]
