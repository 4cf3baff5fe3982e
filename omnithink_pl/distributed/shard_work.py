"""Work without training that processes divide: each does its share, and all have what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, final

from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from omnithink_pl.distributed.collectives import gather_rows, process_count, process_rank
from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.distributed.failure_barrier import Peers


T = TypeVar("T")


@final
class Division:
    """Divides rows among the processes of a run; all of them must make the same calls. One process does all itself.

    Args:
        peers: Tells each process whether another failed, before it waits for it.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def own(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's share: what :meth:`each` puts together again in the same order."""
        return rows[process_rank() :: process_count()]

    def each(self, work: Callable[[], list[T]]) -> list[T]:
        """The rows that all processes made, in the order of the whole: the first of each, then the second of each.

        Raises:
            BadInput: In all of them where one raised it.
            RankFailure: Where another process failed otherwise.
        """
        return gather_rows(self.agreed(work))

    def first(self, work: Callable[[], T]) -> T:
        """What the first process's work gave, in all processes.

        Raises:
            BadInput: In all of them.
            RankFailure: In the others, where it failed otherwise.
        """
        (found,) = self.each(lambda: [work()] if process_rank() == 0 else [])
        return found

    def agreed(self, work: Callable[[], T]) -> T:
        """What this process's own work gave, once that of none was refused.

        Raises:
            BadInput: In all of them where one raised it: all can go on with something else.
            RankFailure: Where another process failed otherwise.
        """
        found: list[T] = []
        refused: list[BadInput] = []
        with self._peers.watching():
            try:
                found = [work()]
            except BadInput as error:
                refused = [error]
        everywhere = gather_rows(refused)
        if everywhere:
            raise everywhere[0]
        return found[0]


def check_divisible(strategy: Strategy, verb: str) -> None:
    """Refuse a strategy that divides the model: without training only prompts are divided.

    Args:
        strategy: The trainer's.
        verb: For the message.

    Raises:
        BadInput: Names the cure.
    """
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise BadInput(
            f"trainer.strategy: {verb} divides prompts among processes, each of which holds the whole policy, and does "
            f"not work with {type(strategy).__name__}; use --trainer.strategy=ddp, or one process"
        )
