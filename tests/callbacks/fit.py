"""A fit whose steps cost nothing: real trainer and callbacks around a module that only counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch

from callbacks.curriculum import Curriculum
from callbacks.stage_evaluation import StageEvaluation
from omnithink_pl.curriculum.score_matrix import TaskScore
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.samplers import StratifiedTaskSampler
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.evaluation.evaluator import Sample
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.types import Completion, Example, Group, Outcome
from tests.scores import score

STAGES = [Stage({"code": 1.0}, 3), Stage({"math": 1.0}, 2)]


class CountingModule(MultiTaskGRPO):
    """Logs as the real module does; its reward in step n is n / 10, and its weight grows by 1."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        L.LightningModule.__init__(self)
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.policy_name, self.seed = "embedded", 7
        self.steps_done, self.updating = 0, False
        self.policy, self.engine = (
            SimpleNamespace(steps_done=lambda: self.steps_done, weights_changed=lambda: None),
            None,
        )
        self.last_rollouts, self.last_metrics = [], {}
        self.fail_at, self.error = fail_at, error
        self.barrier = FailureBarrier()
        self.watch, self.monitor = Stopwatch(), FailureMonitor(FailurePolicy())

    def configure_model(self) -> None:
        pass

    def on_fit_start(self) -> None:
        self.barrier.setup(self)

    def on_stage_start(self, run: StageRun) -> None:
        pass

    def check_weights(self, *args: Any) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: list[Example], batch_idx: int) -> None:
        if self.steps_done == self.fail_at and self.error is not None:
            raise self.error
        self.updating = True
        self.steps_done += 1
        self.weight.data += 1.0
        (example,) = batch
        completions = (Completion((1, 2), (-0.1, -0.2), "an answer", "stop"),) * 2
        self.last_rollouts = [ScoredGroup(Group(example, (3,), completions), (score(1.0), score(0.0)), (1.0, -1.0))]
        self.last_metrics = {f"train/{example.task}/reward": self.steps_done / 10, "train/kl": 0.01}
        for logger in self.trainer.loggers:
            logger.log_metrics(self.last_metrics, step=self.steps_done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps_done"] = self.steps_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps_done = checkpoint["steps_done"]


class CountedData(MultiTaskData):
    """One example of each task, nothing to load; the sampler and the loader are the real ones."""

    def __init__(self) -> None:
        L.LightningDataModule.__init__(self)
        self.trained_tasks = ["code", "math"]
        self.batch_size, self.seed, self.default_sampler = 1, 0, StratifiedTaskSampler()
        self.benchmarks, self.demonstrations = {}, None
        self.tasks = dict.fromkeys(["code", "math"], SimpleNamespace(close=lambda: None, source=None))
        self.held_out, self.benchmarks = {"code": [], "math": []}, {}
        self.train = [
            Example(task, "row-1", "What?", "That.", ({"role": "user", "content": "What?"},)) for task in self.tasks
        ]

    def setup(self, stage: str) -> None:
        pass


class RisingEvaluator:
    """Every task gains four points a step."""

    def measure(self, policy: Any, engine: Any, tasks: Any, *rest: Any) -> dict[str, Any]:
        return {task: self.result(policy) for task in tasks}

    def conclude(self, measured: dict[str, Any], max_failed: float) -> dict[str, Any]:
        return measured

    def result(self, policy: Any) -> SimpleNamespace:
        value = 0.2 + 0.04 * policy.steps_done()
        score = TaskScore(value, value - 0.05, value + 0.05, value, value, value, 10, 2)
        by_prompt = {"uid": ["row-1"], "sampled": [value], "greedy": [value]}
        samples = [Sample("What is\nit?", "It is [b]this[/b].", Outcome.of(value), "row-1")]
        return SimpleNamespace(
            score=score, by_prompt=lambda: by_prompt, samples=lambda count: samples[:count], unscored=""
        )


def evaluation() -> StageEvaluation:
    return StageEvaluation(RisingEvaluator())


def curriculum() -> Curriculum:
    return Curriculum(STAGES)


def trainer(directory: Path, callbacks: list[L.Callback], logger: Any = False, **kwargs: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=logger,
        callbacks=callbacks,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=directory,
        **kwargs,
    )
