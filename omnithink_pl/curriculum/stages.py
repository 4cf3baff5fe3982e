"""Stages as data: curriculum, reverse, joint and single-task runs differ in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from omnithink_pl.data.samplers import TaskSampler
from omnithink_pl.errors import BadInput


@dataclass(frozen=True)
class Stage:
    """A stretch of training with a fixed mixture of tasks.

    Args:
        tasks: Weight of each task in the mixture; weights need not sum to 1.
        steps: Batches of rollouts in this stage; if not given, what ``curriculum.steps`` has for its tasks, summed.
        replay: Weights of tasks that are rehearsed beside those of ``tasks``.
        sampler: Task sampler of this stage; ``data.task_sampler`` if not given.
    """

    tasks: dict[str, float]
    steps: int = 0
    replay: dict[str, float] = field(default_factory=dict)
    sampler: TaskSampler | None = None

    @property
    def name(self) -> str:
        """The tasks, joined: ``code``, or ``code+math``."""
        return "+".join(self.tasks)

    @property
    def mixture(self) -> dict[str, float]:
        """Positive weight of every task that the stage samples from."""
        return {task: weight for task, weight in (self.replay | self.tasks).items() if weight > 0}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for checkpoints; the sampler is represented by its class."""
        sampler = None if self.sampler is None else type(self.sampler).__qualname__
        return {"tasks": dict(self.tasks), "steps": self.steps, "replay": dict(self.replay), "sampler": sampler}


@dataclass(frozen=True)
class StageRun:
    """A stage as it is run: its place in the plan. This is what stage events carry.

    Number 0 is the base model: a stage without steps, whose row of the score matrix is measured before training.

    Args:
        plan: All stages, in the order and with the lengths that are known now.
        number: Place of the stage, from 1; 0 for the base model.
        begins: Whether its first step comes next; false where a run is resumed within the stage or its length changed.
    """

    plan: tuple[Stage, ...]
    number: int
    begins: bool = True

    @property
    def stage(self) -> Stage:
        """The stage itself.

        Raises:
            ValueError: For the base model.
        """
        if self.number == 0:
            raise ValueError("the base model is no stage of the plan")
        return self.plan[self.number - 1]

    @property
    def name(self) -> str:
        """Name of the stage; ``base`` for the base model."""
        return self.stage.name if self.number else "base"

    @property
    def first_step(self) -> int:
        """Zero-based step that the stage begins with."""
        return total_steps(self.plan[: max(0, self.number - 1)])

    @property
    def end_step(self) -> int:
        """Steps done when the stage has ended."""
        return total_steps(self.plan[: self.number])

    @property
    def total_steps(self) -> int:
        """Steps of the whole plan."""
        return total_steps(self.plan)

    @property
    def is_last(self) -> bool:
        """Whether training ends with this stage."""
        return self.number == len(self.plan)


def with_lengths(stages: Iterable[Stage], steps: Mapping[str, int] | int) -> list[Stage]:
    """Give stages without a length the sum of their tasks' steps; one of whose tasks has none is left as it is.

    So curriculum, reverse, joint and single-task training train on the same number of batches of each task, whatever
    the size of the run: an overlay for another size changes ``steps`` and no stage.

    Args:
        stages: As configured.
        steps: Batches of each task, or one number for all.
    """
    stages = list(stages)
    of_task = (
        dict.fromkeys((task for stage in stages for task in stage.tasks), steps) if isinstance(steps, int) else steps
    )
    return [
        replace(stage, steps=sum(of_task[task] for task in stage.tasks))
        if stage.steps == 0 and all(task in of_task for task in stage.tasks)
        else stage
        for stage in stages
    ]


def total_steps(stages: Sequence[Stage]) -> int:
    """Sum the steps of stages."""
    return sum(stage.steps for stage in stages)


def trained_tasks(stages: Iterable[Stage | Mapping[str, Any]] | None) -> list[str]:
    """Return the tasks that some stage samples from, in the order in which they first appear.

    Args:
        stages: As objects, or as a parser has them before they are built, when they may be missing.
    """
    plain = [stage.to_dict() if isinstance(stage, Stage) else dict(stage) for stage in stages or ()]
    mixtures = ((stage.get("replay") or {}) | dict(stage["tasks"]) for stage in plain)
    return list(dict.fromkeys(task for mixture in mixtures for task, weight in mixture.items() if weight > 0))


def with_replay(stages: Sequence[Stage], share: float) -> list[Stage]:
    """Mix the tasks of earlier stages into later ones.

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
            raise BadInput(
                f"{where}.steps is {stage.steps}; a stage has at least one step: give it steps, or name each of its "
                f"tasks in curriculum.steps"
            )
