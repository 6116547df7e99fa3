"""Images for training and for probing, read from folders, archives, datasets, or anything that yields them."""

from lwta.images.base import IndexedProbe, Probe, Sample
from lwta.images.decoding import UnreadableImageError
from lwta.images.labelled import Images, MissingSplitError, open_images
from lwta.images.opening import open_probe

__all__ = [
    "Images",
    "IndexedProbe",
    "MissingSplitError",
    "Probe",
    "Sample",
    "UnreadableImageError",
    "open_images",
    "open_probe",
]
