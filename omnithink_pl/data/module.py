"""The examples of all tasks, and the batches of the curriculum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from omnithink_pl.curriculum.stages import Stage, check_stages
from omnithink_pl.data.batches import CurriculumBatchSampler, PromptBatch, ResumableLoader, Sealed, prompt_batches
from omnithink_pl.data.demonstrations import load_demonstrations
from omnithink_pl.data.samplers import StratifiedTaskSampler, TaskSampler
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import Suite
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Report
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example


class MultiTaskData(L.LightningDataModule):
    """Training and held-out examples of every task.

    Args:
        tasks: The tasks by name. All of them are evaluated; those that a stage names are trained.
        stages: The curriculum; comes from ``curriculum.stages``.
        batch_size: Prompts per step, over all processes.
        seed: Of the order of examples and options; comes from ``seed_everything``.
        task_sampler: How a stage's mixture becomes the tasks of a batch; stratified if not given.
        demonstrations: A data set of completions to imitate, as ``predict`` writes it: trained on in place of the
            tasks' own prompts, for supervised fine-tuning.
        benchmarks: What ``validate`` measures, by name; the held-out examples of all tasks if not given.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        stages: list[Stage],
        batch_size: int = 8,
        seed: int = 0,
        task_sampler: TaskSampler | None = None,
        demonstrations: str | None = None,
        benchmarks: dict[str, Suite] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise BadInput(f"data.batch_size is {batch_size}; a step needs at least one prompt")
        for key, task in tasks.items():
            if key != task.name:
                raise BadInput(f"data.tasks.{key} holds the task {task.name!r}; use its name as the key")
        check_stages(stages, tasks)
        self.tasks = tasks
        self.stages = stages
        self.batch_size = batch_size
        self.seed = seed
        self.task_sampler = task_sampler or StratifiedTaskSampler()
        self.demonstrations = demonstrations
        self.done_batches: frozenset[int] = frozenset()  # of those that `predict` samples from
        self.benchmarks = benchmarks or {}
        self.train: list[Example] = []
        self.held_out: dict[str, list[Example]] = {}

    @property
    def trained_tasks(self) -> list[str]:
        """Tasks that some stage trains on, in the order in which they first appear."""
        return list(dict.fromkeys(t for stage in self.stages for t, weight in stage.mixture.items() if weight > 0))

    def setup(self, stage: str) -> None:
        """Load every split that will be needed, so that a bad row ends the run before it starts."""
        if not self.held_out:
            self.held_out = {name: task.examples("test", self.seed) for name, task in self.tasks.items()}
        if self.train:
            return
        if stage == "fit" and self.demonstrations is not None:
            self.train = load_demonstrations(Path(self.demonstrations), self.trained_tasks)
        elif stage in {"fit", "predict"}:
            self.train = [
                example for name in self.trained_tasks for example in self.tasks[name].examples("train", self.seed)
            ]

    def reports(self) -> dict[str, Report]:
        """What became of the rows of each task whose data was curated."""
        sources = {name: task.source for name, task in self.tasks.items()}
        found = {name: source.report() for name, source in sources.items() if isinstance(source, CuratedSource)}
        return {name: report for name, report in found.items() if report is not None}

    def train_dataloader(self) -> ResumableLoader:
        """One loader for the whole curriculum."""
        trainer = self.trainer
        assert trainer is not None
        self.sampler = CurriculumBatchSampler(
            self.stages,
            self.train,
            self.batch_size,
            self.task_sampler,
            self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return ResumableLoader(self.train, self.sampler, self._steps_done)

    def batch(self, step: int) -> list[Example]:
        """This process's part of a step's batch, also before its turn."""
        return [self.train[index] for index in self.sampler.batch(step)[self.sampler.rank :: self.sampler.world_size]]

    def more(self, step: int, already: int, tasks: Sequence[str]) -> list[Example]:
        """Further examples for a step, over all processes.

        Args:
            step: The step.
            already: How many there were before.
            tasks: The task of each.
        """
        return [self.train[index] for index in self.sampler.more(step, already, tasks)]

    def predict_dataloader(self) -> DataLoader[PromptBatch]:
        """The training prompts in numbered batches, without those that are done."""
        batches = prompt_batches(self.train, self.batch_size, self.done_batches)
        return DataLoader(batches, batch_size=None, collate_fn=Sealed)  # type: ignore[arg-type]

    def _steps_done(self) -> int:
        assert self.trainer is not None
        return int(self.trainer.lightning_module.steps_done)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Sealed[list[Example]] | Sealed[PromptBatch], device: torch.device, dataloader_idx: int
    ) -> list[Example] | PromptBatch:
        """Examples are text: only tokens move to a device."""
        return batch.content

    def teardown(self, stage: str) -> None:
        """End the processes that rewards hold."""
        for task in (*self.tasks.values(), *(suite.task for suite in self.benchmarks.values())):
            task.close()

    def on_exception(self, exception: BaseException) -> None:
        """End the processes that rewards hold."""
        self.teardown("fit")
