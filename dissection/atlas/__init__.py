"""Atlas: a folder of static pages that show every neuron, and explain single images."""

from lwta.dissection.atlas.writing import write_atlas

__all__ = ["write_atlas"]
