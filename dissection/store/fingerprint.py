"""Fingerprints of networks and probes: short texts that differ when a recording of them might."""

from __future__ import annotations

from torch import Tensor, nn

from lwta.dissection.store.transform_text import without_addresses
from lwta.images import Probe
from lwta.support.digests import checksum, digest_of_tensors

CONTENTS = {"ends": "image content", "crc32": "image CRC"}
"""Name, in a manifest, of the digest of the images' content, by the kind of the digests of single images."""


def fingerprint_weights(model: nn.Module) -> str:
    """Return the digest of all parameters and buffers, by name, type, shape and value."""
    state = model.state_dict().items()
    return digest_of_tensors(
        {name: value if isinstance(value, Tensor) else without_addresses(repr(value)) for name, value in state}
    )


def fingerprint_architecture(model: nn.Module) -> str:
    """Return the digest of the modules and their settings, as far as repr shows them (an LWTA layer's shows all)."""
    return checksum(without_addresses(repr(model)))


def fingerprint_probe(probe: Probe) -> str:
    """Return the number of images and the digest of their keys, in order, and of the sizes of their files.

    The repr of a dataset, whose keys are mere numbers, counts too. A replaced image is noticed only if its file size
    differs; `fingerprint_images` notices more.

    Raises:
        ValueError: the keys are not known before the images are read.
    """
    if probe.keys is None:
        raise ValueError(
            f"store needs a probe whose keys are known before its images are read; {probe.name} is a stream: give a "
            "folder, an archive, a dataset or a list of (key, image) pairs, or leave store away"
        )
    dataset = getattr(probe, "_dataset", None)  # only a DatasetProbe has one
    described = "" if isinstance(dataset, list | tuple) else without_addresses(repr(dataset))
    return f"{len(probe.keys)} images, {checksum(chr(0).join([*probe.keys, described, *map(str, probe.sizes())]))}"


def fingerprint_images(probe: Probe) -> dict[str, str]:
    """Return the digest of the images' content, as far as it is cheap to read, under its name in a manifest.

    In zip archives that is the CRC-32 of each file, from the archive's directory: any change is noticed, at no cost. In
    folders and tar archives it is the first and last 2 KiB of each file: about 45 µs for a file that the system has
    cached and 0.5 ms for one that it has not (1,649 photographs: 0.07 s and 0.8 s). With more than 65,536 files only
    every n-th is read, so that 1.28 million cost 3 s to 35 s instead of one to eleven minutes. Nothing depends on times
    of modification, so a folder may be copied.

    These changes are not noticed: one in the middle of a file that leaves its size and its ends alone, one of a file
    that is not read, and any in the items of datasets and in (key, image) pairs. A zip archive and a folder of the same
    files have digests that cannot be compared, so between them only changes of size are noticed.

    Returns:
        One entry, "image content" or "image CRC"; empty where no content is cheap to read.
    """
    digests = list(probe.digests())
    kind = next((text.partition(":")[0] for text in digests if text), "")
    return {CONTENTS[kind]: checksum(chr(0).join(digests))} if kind in CONTENTS else {}
