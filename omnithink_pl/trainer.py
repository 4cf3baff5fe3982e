"""Lightning's Trainer, with what can be done beside training."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console
from rich.progress import track

from omnithink_pl.budget import Machine, Settings, Sizes, memory, seconds
from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.preparation import Prepared, prepare_task
from omnithink_pl.evaluation.completions import score_completions
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.modules.projection import LOGITS
from omnithink_pl.policy import load_tokenizer, policy_path
from omnithink_pl.report.budget_table import memory_table, speed_table
from omnithink_pl.report.data_table import data_table, filter_columns, filter_table
from omnithink_pl.report.reward_table import reward_summary, reward_table
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.rollouts import rollout_table


class OmniThinkTrainer(L.Trainer):
    """Also prepares data, and scores completions, so that a reward can be looked at without training."""

    def prepare(self, model: MultiTaskGRPO, datamodule: MultiTaskData) -> None:
        """Download, curate and cache the data of every task, so that `fit` starts at once and without a network.

        What is done already is not done again; of a hub's branch it is asked whether it has moved. Loads no policy,
        only its tokenizer.

        Args:
            model: Knows the policy's name.
            datamodule: Has the tasks.
        """
        console = Console()
        tokenizer = load_tokenizer(model.policy_name)
        prepared: list[Prepared] = []
        try:
            for task in datamodule.tasks.values():
                shown = partial(track, console=console, transient=True, disable=not console.is_terminal)
                prepared.append(prepare_task(task, tokenizer, datamodule.seed, shown))
                if (report := prepared[-1].report) is not None:
                    console.print(filter_table(task.name, report))
        finally:
            datamodule.teardown("prepare")
        console.print(data_table(prepared))
        self._track_data(prepared, console)

    def _track_data(self, prepared: list[Prepared], console: Console) -> None:
        reports = {found.task: found.report for found in prepared if found.report is not None}
        for logger in self.loggers:
            if isinstance(logger, TrackingLogger):
                logger.set_tags({"kind": "prepare", "mlflow.runName": "prepare"})
                logger.log_metrics({name: value for found in prepared for name, value in found.metrics().items()})
                logger.artifacts.table(filter_columns(reports), "data.json")
                for name, report in reports.items():
                    logger.artifacts.json(asdict(report), f"data/{name}.json")
                console.print(f"also in run {logger.run_id}, artifacts data.json and data/", highlight=False)
                logger.finalize("success")

    def score(self, model: L.LightningModule, datamodule: MultiTaskData, completions: str) -> None:
        """Score completions from a file with the rewards of a config, and print them; loads no policy.

        Args:
            model: Not used; Lightning's command line passes it.
            datamodule: Has the tasks.
            completions: A JSON-lines file. Each row has ``task``, ``completion``, and either the ``uid`` of an
                example or its ``question`` and ``reference``.
        """
        try:
            groups = score_completions(Path(completions), datamodule.tasks, datamodule.seed)
        finally:
            datamodule.teardown("score")
        console = Console()
        console.print(reward_table(groups))
        console.print(reward_summary(groups))
        for logger in self.loggers:
            if isinstance(logger, TrackingLogger):
                logger.set_tags({"kind": "score", "mlflow.runName": "score"})
                logger.artifacts.table(rollout_table(groups, 0), "scores.json")
                console.print(f"also in run {logger.run_id}, artifact scores.json", highlight=False)
                logger.finalize("success")

    def budget(
        self,
        model: MultiTaskGRPO,
        datamodule: MultiTaskData,
        gpus: int | None = None,
        sharded: bool | None = None,
        prompt_tokens: int = 256,
        completion_tokens: int | None = None,
        machine: Machine = Machine(),  # noqa: B008  (frozen)
    ) -> None:
        """Print what a run needs of each GPU and how fast it is at best, by arithmetic; needs no GPU, loads no weights.

        Args:
            model: What is trained; Lightning's command line passes it.
            datamodule: Has the batch size.
            gpus: Processes; the trainer's ``devices`` times ``num_nodes`` if not given.
            sharded: Divide the model among them; if not given, whether the trainer's strategy does.
            prompt_tokens: Of a prompt, on average.
            completion_tokens: Of a completion, on average; half of the longest if not given.
            machine: One of the GPUs.
        """
        from transformers import AutoConfig

        sizes = Sizes.of(AutoConfig.from_pretrained(policy_path(model.policy_name)), model.adapter)
        longest = model.sampling.max_tokens
        settings = Settings(
            gpus=gpus or 1,
            sharded=bool(sharded),
            weights=model.adapter.weights if model.adapter else "float32",
            compute="bfloat16" if str(self.precision).startswith("bf16") else "float32",
            adapted=model.adapter is not None,
            reference=any(model.beta.values()),
            optimizer_bytes=optimizer_bytes(model.optimizer),
            prompts=datamodule.batch_size,
            group_size=model.sampling.n,
            tokens=prompt_tokens + (completion_tokens or longest // 2),
            longest=prompt_tokens + longest,
            micro_batch_tokens=model.micro_batch_tokens,
            updates=model.updates_per_batch,
            logits=LOGITS,
            engine_weights=getattr(model.engine, "dtype", None),
            cache_gib=getattr(model.engine, "kv_cache_gib", None),
        )
        console = Console()
        console.print(f"{sizes.parameters:,} parameters, {sizes.trained:,} trained, {settings.gpus} GPUs")
        console.print(memory_table(memory(sizes, settings), machine))
        console.print(speed_table(seconds(sizes, settings, machine), settings))


def optimizer_bytes(optimizer: OptimizerCallable) -> float:
    """Bytes of an optimiser's state for each parameter, found by one step on a small one."""
    parameter = torch.nn.Parameter(torch.zeros(4096))
    parameter.grad = torch.zeros_like(parameter)
    made = optimizer([parameter])
    made.step()
    state = made.state[parameter].values()
    return sum(value.nbytes for value in state if isinstance(value, torch.Tensor)) / parameter.numel()
