"""The processes that work on one store, such as torchrun starts them: each does a part of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from torch import Tensor, distributed

from lwta.dissection.similarity import Similarity

TIMEOUT = timedelta(hours=2)
"""How long to wait for a process that neither arrives nor breaks off. One that dies is noticed at once, unless all of
its machine is gone."""

T = TypeVar("T")


class Team:
    """The processes of the default process group, or this one alone where there is none."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self._group: Any = None

    @classmethod
    @contextmanager
    def gathered(cls) -> Iterator[Team]:
        """For as long as the context lasts; what goes wrong between the processes is told in words."""
        team = cls()
        if not (distributed.is_available() and distributed.is_initialized()):
            yield team
            return
        team.rank, team.size = distributed.get_rank(), distributed.get_world_size()
        with team._together():
            # of its own, on the CPU whatever the default group is: what is exchanged is small and lies there
            team._group = distributed.new_group(backend="gloo", timeout=TIMEOUT)
        try:
            yield team
        finally:  # also if this process fails: so the others learn of it
            distributed.destroy_process_group(team._group)

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This process's part of the work."""
        return work[self.rank :: self.size]

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            with self._together():
                distributed.barrier(self._group)

    def lead(self, action: Callable[[], T]) -> T:
        """What the action returns or raises in the first process, in all of them."""
        if self.size == 1:
            return action()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = action()
            except Exception as error:
                box[1] = error
        with self._together():
            distributed.broadcast_object_list(box, src=0, group=self._group)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def finalize(self, similarity: Similarity | None, text_features: Tensor) -> Tensor:
        """The scores of all of their accumulators, merged, in every process; None stands for one that took in nothing.

        Raises:
            ValueError: none of them took in anything.
        """
        merged = self._merged(similarity)

        def finish() -> Tensor:
            if merged is None:
                raise ValueError("there is nothing to score: no shard was taken in")
            return merged.finalize(text_features)

        return self.lead(finish)

    def _merged(self, similarity: Similarity | None) -> Similarity | None:
        """In the first process all of the accumulators, in any other its own."""
        with self._together():
            if self.rank > 0:
                distributed.send_object_list([similarity], dst=0, group=self._group)
            for rank in range(1, self.size if self.rank == 0 else 0):  # one by one: they may be large
                box: list[Any] = [None]
                distributed.recv_object_list(box, src=rank, group=self._group)
                if similarity is None:
                    similarity = box[0]
                elif box[0] is not None:
                    similarity.merge(box[0])
        return similarity

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.size}: another process of this dissection died, or was not heard of for "
                f"{TIMEOUT}; what is stored stays, and the same command goes on from there"
            ) from error
