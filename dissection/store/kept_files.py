"""Files beside a recording that hold what was computed from it, so that it is computed once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lwta.dissection.store.checked_files import write_file
from lwta.support.digests import CHECKSUM, checksum, digest_of_tensors

FORMAT = "1"
"""Version of what is kept; files of another are computed again."""
DEPENDS = "lwta_depends_on"


class KeptFiles:
    """Folder of tensors that were computed from a recording, a file for each name.

    A file is used only if it was computed from this very recording and is whole; otherwise it is computed again. A
    folder that cannot be written to keeps nothing.

    Args:
        folder: the folder; it is made when something is put there.
        depends: digest of everything that the tensors are computed from.
    """

    def __init__(self, folder: Path, depends: str) -> None:
        self._folder, self._depends = folder, checksum(f"{FORMAT} {depends}")

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors under a name; None if there are none, or none of this recording, or they are damaged.

        Warns:
            UserWarning: the file is damaged.
        """
        path = self._file(name)
        try:
            data = path.read_bytes()  # not mapped: a file that another process alters would alter what was checked
            found, facts = load(data), _facts(data)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            warnings.warn(f"store: {path} is damaged ({error}); it is computed again", stacklevel=2)
            return None
        if facts.get(DEPENDS) != self._depends:
            return None
        if digest_of_tensors(found) != facts.get(CHECKSUM):
            warnings.warn(f"store: {path} is damaged; it is computed again", stacklevel=2)
            return None
        return found

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a name; a folder that cannot be written to keeps nothing."""
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        facts = {DEPENDS: self._depends, CHECKSUM: digest_of_tensors(whole)}
        with suppress(OSError):  # a read-only or full medium: what is not kept is computed again
            self._folder.mkdir(parents=True, exist_ok=True)
            write_file(self._file(name), save(whole, metadata=facts))

    def drop(self, name: str) -> None:
        """Forget the tensors under a name, if there are any."""
        with suppress(OSError):  # as in `put`
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def _facts(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file, which is JSON after eight bytes that say how long it is."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts: dict[str, str] = header.get("__metadata__", {})
    return facts
