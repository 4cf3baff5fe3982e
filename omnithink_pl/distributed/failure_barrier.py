"""Processes of a run end together: a failure of one is known to all before they wait for it.

Without this, a process whose engine, reward or disk failed would end alone. The others would learn of it only from a
broken connection, in the middle of a collective operation such as saving a checkpoint.
"""

from __future__ import annotations

import atexit
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
TIMEOUT = timedelta(minutes=5)
_NO_STEP = -1
_OK, _FLAG, _FAILED = range(3)
_ALONE = [[_FAILED, _NO_STEP]]  # the table where some process did not answer


class Trained(Protocol):
    """What a process could save."""

    steps_done: int
    updating: bool  # the weights belong to no step that is finished and tracked


@final
class FailureBarrier:
    """A barrier at which every process tells whether it failed and which step it could save.

    A process that fails enters the barrier once more, which is the next one of all others, and then ends. So all know
    the same of each other, whichever failed and wherever. With one process nothing here does anything.

    The barrier uses a process group on the CPU: it works beside any accelerator's, and notices a killed process.

    Args:
        timeout: How long a failed process waits for the others, who may be sampling or in another collective
            operation; after that it ends without them.
    """

    def __init__(self, timeout: timedelta = TIMEOUT) -> None:
        self._timeout = timeout
        self._trained: Trained | None = None
        self._group: dist.ProcessGroup | None = None
        self._last: list[list[int]] = []  # the table of the barrier after which all end

    def setup(self, trained: Trained) -> None:
        """Create the process group, given what this process could save; all processes call it at the same point."""
        self._trained, self._last = trained, []
        if process_count() > 1:
            self._group = dist.new_group(backend="gloo")
            atexit.register(_close_process_groups)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Guard work that this process does by itself, and enter the barrier after it.

        Raises:
            RankFailure: If another process failed; its own failure is raised as it is.
        """
        try:
            yield
        except BaseException:
            self._report_failure()
            raise
        self.any_rank()

    def any_rank(self, flag: bool = False) -> bool:
        """Enter the barrier; return whether the flag is set in any process.

        Raises:
            RankFailure: If another process failed or is gone.
        """
        if self._group is None:
            return flag
        try:
            table = self._exchange(_FLAG if flag else _OK)
        except RuntimeError as error:
            self._last = _ALONE
            raise RankFailure(f"another process of this run is gone; see its message ({error})") from error
        failed = [rank for rank, (condition, _) in enumerate(table) if condition == _FAILED]
        if failed:
            self._last = table
            raise RankFailure(f"process {failed[0]} of {len(table)} failed; see its message")
        return any(condition == _FLAG for condition, _ in table)

    def all_at_same_step(self) -> bool:
        """Return, in a process that ends by an error, whether all answered and could save the same step together."""
        step = self._savable_step()
        if self._group is not None:
            self._report_failure()
            return step != _NO_STEP and {other for _, other in self._last} == {step}
        return step != _NO_STEP

    def _report_failure(self) -> None:
        """Enter the barrier for the last time, unless that has been done."""
        if self._group is None or self._last:
            return
        self._last = _ALONE
        try:
            self._last = self._exchange(_FAILED, self._timeout)
        except RuntimeError as error:
            log.debug("The other processes do not answer: %s", error)  # they are in another operation, or gone

    def _savable_step(self) -> int:
        return _NO_STEP if self._trained is None or self._trained.updating else self._trained.steps_done

    def _exchange(self, condition: int, timeout: timedelta | None = None) -> list[list[int]]:
        """Return the condition of every process and the step that it could save, by rank."""
        assert self._group is not None
        table = torch.zeros(process_count(), 2, dtype=torch.int64)
        table[dist.get_rank()] = torch.tensor([condition, self._savable_step()])
        # Not dist.all_reduce, which takes no timeout.
        options = dist.AllreduceOptions()
        if timeout is not None:
            options.timeout = timeout
        self._group.allreduce([table], options).wait()
        return list(table.tolist())


def _close_process_groups() -> None:
    """Join gloo's threads, which Lightning leaves open on a CPU: running at the end, they may abort the interpreter."""
    if dist.is_initialized():
        dist.destroy_process_group()
