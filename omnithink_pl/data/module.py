"""The examples of all tasks, and the batches of the stage that is trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import torch
from torch.utils.data import DataLoader

from omnithink_pl.data.batches import PromptBatch, ResumableLoader, Sealed, StageBatchSampler, prompt_batches
from omnithink_pl.data.demonstrations import load_demonstrations
from omnithink_pl.data.pass_rates import PassRates
from omnithink_pl.data.samplers import StratifiedTaskSampler, TaskSampler
from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import Suite
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Report
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example

if TYPE_CHECKING:
    from omnithink_pl.curriculum.stages import Stage

log = logging.getLogger(__name__)


class MultiTaskData(L.LightningDataModule):
    """Training and held-out examples of every task.

    One DataLoader serves the whole fit. The curriculum callback says which stage its batches come from: :meth:`enter`
    installs the stage's task sampler, :meth:`leave` ends the last one.

    Args:
        tasks: The tasks, by names of your choice. All of them are evaluated.
        trained_tasks: Those that are trained; comes from ``curriculum.stages``. All of them if not given.
        batch_size: Prompts per step, over all processes.
        seed: Of the order of examples and options; comes from ``seed_everything``.
        task_sampler: How a stage's mixture becomes the tasks of a batch, where the stage names no sampler of its own;
            stratified if not given.
        demonstrations: A data set of completions to imitate, as ``predict`` writes it: trained on in place of the
            tasks' own prompts, for supervised fine-tuning.
        sampled_prompts: Training prompts of each task that ``predict`` samples from, the first ones; all if not given.
        pass_rates: Keeps the training prompts that a policy solves neither never nor always; all if not given.
        benchmarks: What ``validate`` measures, by name; the held-out examples of all tasks if not given.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        trained_tasks: list[str] | None = None,
        batch_size: int = 8,
        seed: int = 0,
        task_sampler: TaskSampler | None = None,
        demonstrations: str | None = None,
        sampled_prompts: int | None = None,
        pass_rates: PassRates | None = None,
        benchmarks: dict[str, Suite] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise BadInput(f"data.batch_size is {batch_size}; a step needs at least one prompt")
        for key, task in tasks.items():
            if not re.fullmatch(r"\w+", key):
                raise BadInput(f"data.tasks.{key}: name a task by letters, digits and _; metrics are named after it")
            task.name = key
        self.trained_tasks = list(tasks) if trained_tasks is None else trained_tasks
        for name in self.trained_tasks:
            if name not in tasks:
                raise BadInput(
                    f"curriculum.stages: unknown task {name!r}; choose from {sorted(tasks)} or add it to data.tasks"
                )
        self.tasks = tasks
        self.batch_size = batch_size
        self.seed = seed
        self.default_sampler = task_sampler or StratifiedTaskSampler()
        self.demonstrations = demonstrations
        self.sampled_prompts = sampled_prompts
        if demonstrations is not None and pass_rates is not None:
            raise BadInput("data.pass_rates chooses prompts, data.demonstrations brings its own; leave one of them out")
        self.pass_rates = pass_rates
        self.benchmarks = benchmarks or {}
        self.total_steps = 0  # of the plan; set by the curriculum callback before the loader is built
        self.done_batches: frozenset[int] = frozenset()  # of those that `predict` samples from
        self.train: list[Example] = []
        self.held_out: dict[str, list[Example]] = {}

    def setup(self, stage: str) -> None:
        """Load every split that will be needed, so that a bad row ends the run before it starts."""
        if not self.held_out:
            self.held_out = {name: task.examples("test", self.seed) for name, task in self.tasks.items()}
        if self.train:
            return
        if stage == "fit" and self.demonstrations is not None:
            self.train = load_demonstrations(Path(self.demonstrations), self.trained_tasks, self.held_out)
        elif stage in {"fit", "predict"}:
            most = self.sampled_prompts if stage == "predict" else None
            found = {name: self.tasks[name].examples("train", self.seed)[:most] for name in self.trained_tasks}
            if stage == "fit" and self.pass_rates is not None:
                found = self.pass_rates.select(found)
            self.train = [example for examples in found.values() for example in examples]
        if process_rank() == 0:
            for name, report in self.reports().items():
                if summary := report.summary():
                    log.info("%s: %s", name, summary)

    def train_dataloader(self) -> ResumableLoader:
        """Build the one loader of the whole fit."""
        trainer = self.trainer
        assert trainer is not None
        if self.total_steps == 0:
            raise BadInput("no stage to train: give the trainer the callback callbacks.Curriculum with its stages")
        ranks = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        self.sampler = StageBatchSampler(self.train, self.batch_size, self.default_sampler, self.seed, **ranks)
        self.sampler.total_steps = self.total_steps
        return ResumableLoader(self.sampler, lambda: int(trainer.lightning_module.steps_done))  # type: ignore[arg-type]

    def enter(self, stage: Stage, total_steps: int) -> None:
        """Draw the following batches from a stage, by its task sampler.

        Args:
            stage: The stage.
            total_steps: Steps of the whole plan, as it is now.
        """
        self.total_steps = self.sampler.total_steps = total_steps
        self.sampler.enter(stage.mixture, stage.sampler)

    def leave(self) -> None:
        """Draw no further batches: the last stage is over."""
        self.sampler.leave()

    @property
    def task_sampler(self) -> TaskSampler:
        """Task sampler of the present stage."""
        return self.sampler.task_sampler

    def batch(self, step: int) -> list[Example]:
        """Return this process's part of a step's batch, also one step ahead."""
        return [self.train[index] for index in self.sampler.batch(step)[self.sampler.rank :: self.sampler.world_size]]

    def more(self, step: int, already: int, tasks: Sequence[str]) -> list[Example]:
        """Return further examples for a step, over all processes: see :meth:`StageBatchSampler.more`."""
        return [self.train[index] for index in self.sampler.more(step, already, tasks)]

    @property
    def prompt_batch_count(self) -> int:
        """Number of batches of training prompts, done or not."""
        return -(-len(self.train) // self.batch_size)

    def predict_dataloader(self) -> DataLoader[PromptBatch]:
        """Return the training prompts in numbered batches, without those that are done."""
        batches = prompt_batches(self.train, self.batch_size, self.done_batches)
        return DataLoader(batches, batch_size=None, collate_fn=Sealed)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Sealed[list[Example]] | Sealed[PromptBatch], device: torch.device, dataloader_idx: int
    ) -> list[Example] | PromptBatch:
        """Unseal a batch. Examples are text: only tokens move to a device."""
        return batch.content

    def reports(self) -> dict[str, Report]:
        """Return what became of the rows of each task whose data was curated."""
        sources = {name: task.source for name, task in self.tasks.items()}
        found = {name: source.report() for name, source in sources.items() if isinstance(source, CuratedSource)}
        return {name: report for name, report in found.items() if report is not None}

    def teardown(self, stage: str) -> None:
        """End the processes that rewards hold."""
        for task in (*self.tasks.values(), *(suite.task for suite in self.benchmarks.values())):
            task.close()

    def on_exception(self, exception: BaseException) -> None:
        """End the processes that rewards hold."""
        self.teardown("fit")
