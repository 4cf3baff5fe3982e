"""What every module that trains or samples from a policy has in common."""

from __future__ import annotations

import time
from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lightning as L

from omnithink_pl.errors import BadInput
from omnithink_pl.policy import load_policy, without_dropout

if TYPE_CHECKING:
    from omnithink_pl.modules.scored import ScoredGroup
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.tasks.base import Task
    from omnithink_pl.types import Example


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is no longer a number."""


class PolicyModule(L.LightningModule, ABC):
    """A policy, its tasks and its engine; what callbacks and data ask of a module.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        seed: Of the sampling.
    """

    policy: Policy
    phase: str | None = None
    """rollout, reward or update, while a step is in it."""

    def __init__(self, engine: RolloutEngine, tasks: dict[str, Task], policy: str, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.tasks = tasks
        self.policy_name = policy
        self.seed = seed
        self.steps_done = 0
        self.updating = False  # True while the weights belong to no finished step
        self.last_rollouts: list[ScoredGroup] = []
        self.last_metrics: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def begin_stage(self) -> None:
        """Called before the first step of a stage."""

    def load(self) -> None:
        """Load the policy, unless it is there."""
        if not hasattr(self, "model"):
            self.policy = load_policy(self.policy_name)
            self.model = without_dropout(self.policy.model).train()

    def attach(self) -> None:
        """Hand the policy to the engine, and both to the rewards that ask for them."""
        self.engine.attach(self.policy)
        for task in self.tasks.values():
            task.rubric.attach(self.policy, self.engine)

    def check_prompts(self, examples: Sequence[Example], max_tokens: int) -> None:
        """Refuse a prompt that leaves no room for a completion.

        Args:
            examples: With their prompts.
            max_tokens: Longest completion.

        Raises:
            BadInput: Names the task, the row and the cure.
        """
        for example in examples:
            length = len(self.policy.encode(example.messages))
            if length + max_tokens > self.policy.context:
                raise BadInput(
                    f"data.tasks.{example.task}, row {example.uid}: its prompt of {length} tokens and "
                    f"model.max_tokens={max_tokens} exceed the policy's context of "
                    f"{self.policy.context}; drop the row, lower model.max_tokens or take another policy"
                )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Measure a phase of a step, and say that the module is in it."""
        began, self.phase = time.perf_counter(), phase
        try:
            yield
        finally:
            self.phase = None
        self._seconds[phase] = time.perf_counter() - began
