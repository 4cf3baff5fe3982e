"""A task of your own, put together from a source, a template and a reward."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.prompts import render
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.function import FunctionReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import UNIT_RANGE, Example, Range


@final
class Custom(Task):
    """A task from parts: rows, a prompt and a reward.

    Args:
        source: Training and held-out examples, such as :class:`omnithink_pl.sources.Table`.
        reward: A reward, or the path of a function ``(completion, reference) -> float``, such as ``my_rewards.runs``.
        range: Least and greatest value of a function, from 0 to 1 if not given; a class declares its own.
        template: Template of the user's message, in which ``{{ question }}`` stands: its name in the package, or a
            file. The question itself if not given.
        metric: Name of the reward's mean in evaluations.
        common: See :class:`Task`.
    """

    def __init__(
        self,
        source: Source,
        reward: Reward | Callable[[str, Any], float | None],
        range: Range | None = None,  # noqa: A002  (as in every reward)
        template: str | None = None,
        metric: str = "reward",
        **common: Any,
    ) -> None:
        if not isinstance(reward, Reward):
            reward = FunctionReward(reward, range or UNIT_RANGE)
        elif range is not None:
            raise BadInput(
                f"data.tasks: reward {reward.name!r} is a class, which declares its `range` itself; remove it"
            )
        super().__init__(source, reward, **common)
        self.template = template
        self.metric = metric

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the question in the template."""
        return example.question if self.template is None else render(self.template, question=example.question)
