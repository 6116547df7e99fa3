"""A dissection on disk: recorded once, resumed where it stopped, by any number of processes.

STORE/images-<digest>/   keys and CLIP embeddings of a probe, shared by the networks that see it
STORE/<name>/            activations of a network: layers/<layer>/<shard>.safetensors
    manifest.json        what they depend on, the table of shards with checksums; version 1 of the format
    shards/              the lines of that table while a recording goes on
"""

from lwta.dissection.store.opening import open_store

__all__ = ["open_store"]
