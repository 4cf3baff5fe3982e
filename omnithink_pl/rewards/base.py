"""The interface of a reward, and how rewards that run something score a batch in one call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar, final

from omnithink_pl.errors import RewardFailure
from omnithink_pl.types import UNIT_RANGE, Example, Group, Outcome, Range, State

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine

NO_ANSWER = "no answer segment"
BAD_REFERENCE = "unusable reference"

Awaits: TypeAlias = Literal["group", "batch", "policy"]
"""What a reward waits for: a sampled group; all groups of its task in the batch; or these and an idle policy."""


class Reward(ABC):
    """Scores every completion of a batch of groups.

    A reward sees the whole batch, so that it can compare across prompts. Where the outcomes of a group do not depend
    on other groups, set ``awaits = "group"``: it is then called as soon as a group has been sampled, with all groups
    that are waiting, so that it can verify in parallel. It never raises for a bad completion, but returns
    ``undefined`` (the task cannot say) or ``failed`` (we could not). It does raise for a wrong configuration.

    Values lie in ``range``: in [0, 1] unless the reward declares otherwise, as a penalty does with ``(-1.0, 0.0)``.
    Evaluations count a completion without a value as the lowest of it.
    """

    name: str
    awaits: Awaits = "batch"
    range: Range = UNIT_RANGE

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in the order of ``groups`` and their completions."""

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:  # noqa: B027  (most rewards need neither)
        """Take the policy in training and its rollout engine. Called once, before training."""

    def metrics(self) -> dict[str, float]:
        """Return measurements of the reward itself (not its values) since the last call, by name."""
        return {}

    def close(self) -> None:  # noqa: B027  (most rewards hold nothing)
        """Release processes and connections. Safe to call twice."""


def check_outcomes(reward: Reward, groups: Sequence[Group], rows: Sequence[Sequence[Outcome]]) -> None:
    """Refuse what a reward returned, unless it is one outcome per completion, with values in the declared range.

    Raises:
        RewardFailure: Names the reward and what is wrong.
    """
    wanted, found = [len(group.completions) for group in groups], [len(row) for row in rows]
    if wanted != found:
        raise RewardFailure(f"reward {reward.name!r} returned {found} outcomes for groups of {wanted} completions")
    low, high = reward.range
    for group, row in zip(groups, rows, strict=True):
        for outcome in row:
            if outcome.value is not None and not low <= outcome.value <= high:
                raise RewardFailure(
                    f"reward {reward.name!r} is {outcome.value:g} for {group.example.key}, outside its range "
                    f"[{low:g}, {high:g}]; correct it, or declare another `range`"
                )


Job = TypeVar("Job")


def score_jobs(
    groups: Sequence[Group],
    prepare: Callable[[Example, str], Job | Outcome],
    run: Callable[[list[Job]], Iterable[Outcome]],
) -> list[list[Outcome]]:
    """Return one outcome per completion, in order, with one call to a verifier, a sandbox or a judge.

    Args:
        groups: The batch.
        prepare: Turns an example and a completion's text into a job, or into the outcome where that is already known.
        run: Called once with all jobs, if there are any; returns their outcomes in order.
    """
    rows = [[prepare(group.example, completion.text) for completion in group.completions] for group in groups]
    jobs = [item for row in rows for item in row if not isinstance(item, Outcome)]
    outcomes = iter(run(jobs) if jobs else ())
    return [[item if isinstance(item, Outcome) else next(outcomes) for item in row] for row in rows]


Key = TypeVar("Key", bound=Hashable)


@final
class OutcomeCache(Generic[Key]):
    """Least-recently-used cache of outcomes but failed ones, which say nothing about the completion."""

    def __init__(self, size: int = 10_000) -> None:
        self.size = size
        self._known: OrderedDict[Key, Outcome] = OrderedDict()

    def look_up(self, keys: Sequence[Key], compute: Callable[[list[Key]], list[Outcome]]) -> list[Outcome]:
        """Return the outcome of every key; ``compute`` is called once with the distinct unknown ones, if any."""
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            found.update(zip(missing, compute(missing), strict=True))
        for key, outcome in found.items():
            if outcome.state is not State.FAILED:
                self._known[key] = outcome
                self._known.move_to_end(key)
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return [found[key] for key in keys]
