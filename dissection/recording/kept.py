"""Tensors computed from a recording that are kept with it, so that they are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Kept(Protocol):
    """Place for tensors that were computed from a recording, by name; what is lost there is computed again."""

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors that were put under a name; None if there are none, or none that can be trusted."""

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a name, in the place of those before."""

    def drop(self, name: str) -> None:
        """Forget the tensors under a name, if there are any."""


class KeptInMemory:
    """Place for tensors that lasts as long as the recording."""

    def __init__(self) -> None:
        self._tensors: dict[str, dict[str, Tensor]] = {}

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors that were put under a name; None if there are none."""
        return self._tensors.get(name)

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a name."""
        self._tensors[name] = dict(tensors)

    def drop(self, name: str) -> None:
        """Forget the tensors under a name."""
        self._tensors.pop(name, None)
