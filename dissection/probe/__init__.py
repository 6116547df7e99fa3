"""The probing set: keyed images from a folder, an archive, a dataset, or anything that yields them."""

from lwta.dissection.probe.base import Probe, Sample

__all__ = ["Probe", "Sample"]
