"""A reward that is a plain function of yours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from omnithink_pl.errors import RewardFailure
from omnithink_pl.rewards.base import Reward
from omnithink_pl.types import UNIT_RANGE, Group, Outcome, Range


@final
class FunctionReward(Reward):
    """What a function ``(completion, reference) -> float`` returns for each completion.

    It gets the whole text of the completion; :func:`omnithink_pl.rewards.extract_answer` returns its answer segment.

    Args:
        function: Returns a number, or ``None`` where it cannot say.
        range: Least and greatest number that it may return.
    """

    awaits = "group"

    def __init__(
        self,
        function: Callable[[str, Any], float | None],
        range: Range = UNIT_RANGE,  # noqa: A002  (as in every reward)
    ) -> None:
        self.function = function
        self.range = range
        self.name = getattr(function, "__name__", type(function).__name__)

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order.

        Raises:
            RewardFailure: If the function raises, or returns no number; one out of range is refused with any reward's.
        """
        return [[self._outcome(group, completion.text) for completion in group.completions] for group in groups]

    def _outcome(self, group: Group, completion: str) -> Outcome:
        example, (low, high) = group.example, self.range
        try:
            value = self.function(completion, example.reference)
            return Outcome.undefined("the function cannot say") if value is None else Outcome.of(value)
        except Exception as error:
            raise RewardFailure(
                f"reward {self.name!r}, task {example.task!r}, row {example.uid}: {type(error).__name__}: {error}; "
                f"it must return a number from {low:g} to {high:g}, or None, for any completion"
            ) from error
