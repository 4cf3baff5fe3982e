"""Several processes end together: what goes wrong in one is known to all before they wait for it.

Without this, a process whose engine, reward or disk failed would end alone. The others would learn of it only from a
broken connection, in the midst of something that all must take part in, such as saving a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, final

import torch
import torch.distributed as dist

from omnithink_pl.distributed.collectives import process_count
from omnithink_pl.errors import RankFailure

log = logging.getLogger(__name__)
PATIENCE = timedelta(minutes=5)
_UNSAVABLE = -1
_FINE, _WISHES, _FAILED = range(3)
_ALONE = [[_FAILED, _UNSAVABLE]]  # the answers where some did not come


class Trained(Protocol):
    """What a process could save."""

    steps_done: int
    updating: bool  # the weights belong to no finished step


@final
class Peers:
    """All processes answer at agreed points, the *meetings*, each with how it fares and what it could save.

    A process that fails goes to one more meeting, which is the next of all others, and then ends. So all know the same
    of each other, whichever of them failed and wherever. With one process everything here does nothing.

    Meetings are of the CPU's own group: they work beside any accelerator's, and notice a process that was killed.

    Args:
        patience: How long a process that failed waits for the others, who may be sampling or in another collective
            call; after that it ends without them.
    """

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self._patience = patience
        self._trained: Trained | None = None
        self._group: dist.ProcessGroup | None = None
        self._last: list[list[int]] = []  # the answers at the meeting after which all end

    def open(self, trained: Trained) -> None:
        """Make the group. All processes call it at the same point.

        Args:
            trained: What this process could save, now and later.
        """
        self._trained, self._last = trained, []
        if process_count() > 1:
            self._group = dist.new_group(backend="gloo")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Work that this process does by itself; afterwards all meet.

        Raises:
            RankFailure: If another process failed; its own failure is raised as it is.
        """
        try:
            yield
        except BaseException:
            self._leave()
            raise
        self.meet()

    def meet(self, wish: bool = False) -> bool:
        """Meet the others.

        Args:
            wish: Something that all do as soon as one wants it.

        Returns:
            Whether any process has the wish.

        Raises:
            RankFailure: If another process failed or is gone.
        """
        if self._group is None:
            return wish
        try:
            answers = self._answers(_WISHES if wish else _FINE)
        except RuntimeError as error:
            self._last = _ALONE
            raise RankFailure(f"another process of this run is gone; see its message ({error})") from error
        failed = [rank for rank, (condition, _) in enumerate(answers) if condition == _FAILED]
        if failed:
            self._last = answers
            raise RankFailure(f"process {failed[0]} of {len(answers)} failed; see its message")
        return any(condition == _WISHES for condition, _ in answers)

    def agree(self) -> bool:
        """When this process ends by an error: whether all have come, and could save the same step together."""
        steps = self._savable()
        if self._group is not None:
            self._leave()
            return steps != _UNSAVABLE and {other for _, other in self._last} == {steps}
        return steps != _UNSAVABLE

    def _leave(self) -> None:
        """Go to the last meeting, unless it has been."""
        if self._group is None or self._last:
            return
        self._last = _ALONE
        try:
            self._last = self._answers(_FAILED, self._patience)
        except RuntimeError as error:
            log.debug("The other processes do not come: %s", error)  # they are in another call, or gone

    def _savable(self) -> int:
        return _UNSAVABLE if self._trained is None or self._trained.updating else self._trained.steps_done

    def _answers(self, condition: int, patience: timedelta | None = None) -> list[list[int]]:
        """Condition of every process and the steps that it could save, by its rank."""
        assert self._group is not None
        table = torch.zeros(process_count(), 2, dtype=torch.int64)
        table[dist.get_rank()] = torch.tensor([condition, self._savable()])
        # Not dist.all_reduce, which has no time limit of its own.
        options = dist.AllreduceOptions()
        if patience is not None:
            options.timeout = patience
        self._group.allreduce([table], options).wait()
        return list(table.tolist())
