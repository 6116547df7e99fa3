"""Store: a dissection on disk, recorded once, resumed where it stopped, by any number of processes.

STORE/images-<digest>/   keys and CLIP embeddings of a probe, shared by the networks that see it
STORE/<name>/            activations of a network: layers/<layer>/<shard>.safetensors
    manifest.json        everything they depend on, the table of shards, checksums; version 2 of the format
    shards/              the lines of that table while a recording goes on
    .lock                file that a process locks while it changes the table
"""
