"""Work without training that is sharded among processes: each does its share, and all get every result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import BadInput

T = TypeVar("T")


@final
@dataclass(frozen=True)
class ShardedWork:
    """Shards rows among the processes of a run; all of them must make the same calls.

    A bad input in one process is raised in all of them, which may then continue with something else. Where a process
    fails otherwise, the others raise ``RankFailure``.
    """

    barrier: FailureBarrier

    def shard(self, rows: Sequence[T]) -> Sequence[T]:
        """Return this process's rows: those whose results :meth:`gather` puts back in the same order."""
        return rows[process_rank() :: process_count()]

    def gather(self, work: Callable[[], list[T]]) -> list[T]:
        """Do this process's work; return the results of all, in the order of the whole."""
        return gather_rows(self.run(work))

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Do the work in the first process; return its result in all of them."""
        (result,) = self.gather(lambda: [work()] if process_rank() == 0 else [])
        return result

    def run(self, work: Callable[[], T]) -> T:
        """Do this process's work; return its result once no process has failed."""
        results: list[T] = []
        refused: list[BadInput] = []
        with self.barrier.guard():
            try:
                results = [work()]
            except BadInput as error:
                refused = [error]
        if anywhere := gather_rows(refused):
            raise anywhere[0]
        return results[0]


def check_divisible(strategy: Strategy, verb: str) -> None:
    """Refuse a strategy that shards the model: without training only prompts are sharded."""
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise BadInput(
            f"trainer.strategy: {verb} shards prompts among processes, each of which holds the whole policy, and does "
            f"not work with {type(strategy).__name__}; use --trainer.strategy=ddp, or one process"
        )
