"""Stores the completions that ``predict`` selects as a data set for supervised fine-tuning."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import Progress

from omnithink_pl.data.batches import PromptBatch
from omnithink_pl.data.demonstrations import (
    COUNTED,
    Counts,
    DemonstrationStore,
    Selection,
    prompts_version,
)
from omnithink_pl.data.pass_rates import pass_rates
from omnithink_pl.distributed.shard_work import ShardedWork
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.model.fingerprint import policy_version
from omnithink_pl.modules import RejectionSampling
from omnithink_pl.report.console import bars, demonstration_table
from omnithink_pl.report.live import clock
from omnithink_pl.tracking.adapters import run_artifacts

from .lookups import data_of, module_of

_SECONDS = 10.0  # between lines, as of an evaluation


class Demonstrations(L.Callback):
    """Writes the data set of ``main.py predict``; has no effect in ``fit``.

    Every batch is stored when it is scored, so that an interrupted command resumes when it is run again; each prompt
    has a seed of its own, so the result equals that of an uninterrupted one.

    Args:
        output: Folder of the data set: ``dataset`` in it is what ``data.demonstrations`` takes; ``counts.json`` counts
            the completions by outcome; ``pass_rates.json`` is for ``data.pass_rates``.
        selection: Which completions are kept.
    """

    def __init__(
        self,
        output: str = "outputs/sft_data",
        selection: Selection = Selection(),  # noqa: B008  (frozen)
    ) -> None:
        self.store = DemonstrationStore(Path(output))
        self.selection = selection
        self.console = Console()
        self._counts: Counts = {}
        self._display: Progress | None = None
        self._said = time.monotonic()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open the folder, and skip the batches that are stored in it."""
        if stage != "predict":
            return
        assert isinstance(pl_module, RejectionSampling)
        self.selection.check({name: task.rubric.range for name, task in data_of(trainer).tasks.items()})
        work = ShardedWork(pl_module.barrier)
        done = work.on_rank_zero(lambda: self.store.begin(self._settings(trainer, pl_module)))
        data = data_of(trainer)
        # The last batch is always sampled: with nothing left to sample Lightning ends at once, and a command that was
        # killed before the data set was written would never write it.
        data.done_batches = frozenset(done - {data.prompt_batch_count - 1})

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the display."""
        if not trainer.is_global_zero:
            return
        data = data_of(trainer)
        self._display = bars("sampling", "{task.description}", self.console)
        self._display.add_task("", total=data.prompt_batch_count, completed=len(data.done_batches))
        self._display.start()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: list[ScoredGroup],
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Store the selected completions of a batch."""
        module = module_of(trainer)
        with module.barrier.guard():
            if trainer.is_global_zero:
                rows, counts = self.selection(outputs, module.policy.chat.opened)
                self.store.add(batch.number, rows, counts, pass_rates(outputs))
                self._advance(counts)

    def _advance(self, counts: Counts) -> None:
        for task, count in counts.items():
            self._counts.setdefault(task, Counter()).update(count)
        assert self._display is not None
        kept = "kept " + ", ".join(f"{task} {count['kept']}" for task, count in self._counts.items())
        self._display.update(self._display.task_ids[0], advance=1, description=kept)
        bar = self._display.tasks[0]
        now = time.monotonic()
        if not self.console.is_terminal and (bar.finished or now - self._said >= _SECONDS):
            self._said = now
            batch = f"{time.strftime('%H:%M:%S')}  batch {bar.completed:.0f}/{bar.total:.0f}"
            self.console.print(f"{batch}  {kept}  left {clock(bar.time_remaining)}", highlight=False, soft_wrap=True)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the data set, print its counts, and track them."""
        self._stop()
        counts = ShardedWork(module_of(trainer).barrier).on_rank_zero(self.store.finish)
        if not trainer.is_global_zero:
            return
        self.console.print(demonstration_table(counts))
        self.console.print(f"data set    {self.store.dataset}", highlight=False, soft_wrap=True)
        metrics = {f"sft_data/{task}/{name}": float(count[name]) for task, count in counts.items() for name in COUNTED}
        for logger, run in run_artifacts(trainer).items():
            run.describe({"kind": "sft_data"}, name="sft_data")
            logger.log_metrics(metrics, step=0)
            run.json({task: dict(count) for task, count in counts.items()}, "counts.json")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the display, and say how to resume."""
        if self._display is not None:
            self._stop()
            self.console.print("Stopped; the same command resumes from here.")

    def _settings(self, trainer: L.Trainer, module: RejectionSampling) -> dict[str, Any]:
        data = data_of(trainer)
        return {
            "policy": module.policy_name,
            "policy files": policy_version(module.policy_name),
            "seed": module.seed,
            "sampling": asdict(module.sampling),
            "worked_examples": module.worked_examples or None,
            "selection": asdict(self.selection),
            "batch_size": data.batch_size,
            "tasks": data.trained_tasks,
            "prompts": len(data.train),
            "texts of prompts and references": prompts_version(data.train),
        } | ({"chat_template_kwargs": module.chat_template_kwargs} if module.chat_template_kwargs else {})

    def _stop(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None
