"""The atlas of neurons: a folder of static pages to look at, search and share."""

from lwta.dissection.atlas.atlas import write_atlas

__all__ = ["write_atlas"]
