"""A bounded memory of verdicts, so that what was found out once is not found out again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from omnithink_pl.types import Outcome, State

Key = TypeVar("Key", bound=Hashable)


class OutcomeCache(Generic[Key]):
    """Remembers the outcomes of the most recently used keys.

    Failed outcomes are not remembered: they say nothing about the completion, and the next
    attempt may succeed.

    Args:
        size: Outcomes kept.
    """

    def __init__(self, size: int = 10_000) -> None:
        self.size = size
        self._known: OrderedDict[Key, Outcome] = OrderedDict()

    def look_up(self, keys: Sequence[Key], find_out: Callable[[list[Key]], list[Outcome]]) -> list[Outcome]:
        """The outcome of every key; each distinct unknown key is found out once.

        Args:
            keys: In any order, with repetitions.
            find_out: Called once with the distinct unknown keys, if there are any.
        """
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            found.update(zip(missing, find_out(missing), strict=True))
        for key, outcome in found.items():
            self._remember(key, outcome)
        return [found[key] for key in keys]

    def _remember(self, key: Key, outcome: Outcome) -> None:
        if outcome.state is State.FAILED:
            return
        self._known[key] = outcome
        self._known.move_to_end(key)
        if len(self._known) > self.size:
            self._known.popitem(last=False)
