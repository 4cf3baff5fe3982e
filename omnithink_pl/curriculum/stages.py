"""Stages as data: curriculum, reverse, joint and single-task runs differ in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from omnithink_pl.errors import BadInput


@dataclass(frozen=True)
class Stage:
    """A stretch of training with a fixed mixture of tasks.

    Args:
        tasks: Weight of each task in the mixture; weights need not sum to 1.
        steps: Batches of rollouts in this stage.
        replay: Weights of further tasks that are only kept alive, beside those of ``tasks``.
    """

    tasks: dict[str, float]
    steps: int
    replay: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The tasks, joined: ``code``, or ``code+math``."""
        return "+".join(self.tasks)

    @property
    def mixture(self) -> dict[str, float]:
        """Weight of every task that the stage samples from."""
        return self.replay | self.tasks


@dataclass(frozen=True)
class Position:
    """Where in the curriculum a step lies."""

    index: int
    stage: Stage
    step_in_stage: int


def total_steps(stages: Sequence[Stage]) -> int:
    """Steps of all stages together."""
    return sum(stage.steps for stage in stages)


def boundaries(stages: Sequence[Stage]) -> list[int]:
    """Steps done at the start of each stage, and at the end of the last."""
    return list(accumulate((stage.steps for stage in stages), initial=0))


def position(stages: Sequence[Stage], step: int) -> Position:
    """The stage that a zero-based step belongs to.

    Raises:
        IndexError: If ``step`` lies outside the curriculum.
    """
    for index, (first, stage) in enumerate(zip(boundaries(stages), stages, strict=False)):
        if first <= step < first + stage.steps:
            return Position(index, stage, step - first)
    raise IndexError(f"step {step} lies outside a curriculum of {total_steps(stages)} steps")


def with_replay(stages: Sequence[Stage], share: float) -> list[Stage]:
    """The stages with the tasks of earlier ones mixed in.

    Args:
        stages: In their order. Those that name a replay of their own keep it.
        share: Of the prompts of a batch, in [0, 1), divided evenly among the earlier tasks.
    """
    mixed: list[Stage] = []
    earlier: dict[str, None] = {}
    for stage in stages:
        others = [task for task in earlier if task not in stage.tasks]
        if share > 0.0 and others and not stage.replay:
            weight = share / (1.0 - share) * sum(stage.tasks.values()) / len(others)
            stage = replace(stage, replay=dict.fromkeys(others, weight))
        mixed.append(stage)
        earlier |= dict.fromkeys(stage.tasks)
    return mixed


def check_stages(stages: Sequence[Stage], known: Iterable[str]) -> None:
    """Refuse a curriculum that cannot run.

    Raises:
        BadInput: Names the stage, the key and the cure.
    """
    if not stages:
        raise BadInput("curriculum.stages is empty; give at least one stage such as {tasks: {math: 1}, steps: 60}")
    names = sorted(known)
    for index, stage in enumerate(stages):
        where = f"curriculum.stages[{index}]"
        if not stage.tasks:
            raise BadInput(f"{where}.tasks is empty; choose from {names}")
        for key, weights in (("tasks", stage.tasks), ("replay", stage.replay)):
            for task, weight in weights.items():
                if task not in names:
                    raise BadInput(f"{where}.{key}: unknown task {task!r}; choose from {names} or add it to data.tasks")
                if weight < 0:
                    raise BadInput(f"{where}.{key}.{task}: weight {weight} is negative; use 0 or more")
        if sum(stage.tasks.values()) == 0:
            raise BadInput(f"{where}.tasks: all weights are 0; give one task a positive weight")
        if stage.steps < 1:
            raise BadInput(f"{where}.steps is {stage.steps}; a stage has at least one step")
