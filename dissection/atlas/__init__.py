"""The atlas: a folder of static pages that show every neuron, and why images were seen as they were."""

from lwta.dissection.atlas.writing import write_atlas

__all__ = ["write_atlas"]
