"""Multi-Task GRPO as a LightningModule."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, MutableMapping
from typing import Any, final

from lightning.pytorch.cli import OptimizerCallable

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.distributed.collectives import (
    check_processes,
    clip_gradients,
    gather_rows,
    own_gradients,
    sum_gradients,
)
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.collection import Collector
from omnithink_pl.grpo.failures import FailurePolicy
from omnithink_pl.grpo.kl_control import KLController, KLTargets
from omnithink_pl.grpo.metrics import rollout_metrics, update_metrics
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective
from omnithink_pl.grpo.partial_rollouts import RolloutPolicy
from omnithink_pl.grpo.reference import Anchor, reference_policy
from omnithink_pl.grpo.update import TokenStats, UpdatePlan
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.sharding import shard
from omnithink_pl.modules.base import PolicyModule, TrainingDiverged
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example


def check_settings(
    group_size: int,
    temperature: float,
    updates_per_batch: int,
    beta: Mapping[str, float],
    tasks: Mapping[str, Task],
) -> None:
    """Refuse settings of a module that cannot train.

    Raises:
        BadInput: Names the key and the cure.
    """
    if group_size < 2:
        raise BadInput(f"model.group_size is {group_size}; advantages compare completions, so use 2 or more")
    if temperature <= 0:
        raise BadInput(f"model.temperature is {temperature}; training samples, so use a positive temperature")
    if updates_per_batch < 1:
        raise BadInput(f"model.updates_per_batch is {updates_per_batch}; use 1 or more")
    for name in tasks:
        if name not in beta:
            raise BadInput(f"model.beta has no entry for the task {name!r}; give one, such as {name}: 0.01")


log = logging.getLogger(__name__)


@final
class MultiTaskGRPO(PolicyModule):
    """One policy trained on several tasks: generate, score, advantages, objective, step, log.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name; comes from ``data.tasks``.
        optimizer: Builds the optimiser from the policy's parameters.
        beta: KL coefficient of each task, or where it starts.
        kl: Distances from the reference that the coefficients follow; none for fixed ones.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        objective: Clip, ratio and aggregation.
        advantage: How rewards of a group become advantages.
        correction: What to do where the engine's log-probabilities differ from the trainer's.
        adapter: Train low-rank adapters beside the frozen policy; all of its weights if not given.
        reference: What the KL penalty pulls towards: the ``base`` model, or the policy at the ``stage``'s start. It
            costs nothing where every ``beta`` is 0, and no second model where there is an ``adapter``.
        offload_reference: Keep a second model in the host's memory but while its log-probabilities are computed.
        group_size: Completions per prompt, G.
        temperature: Of sampling; log-probabilities are those at this temperature.
        top_p: Of sampling; below 1, the policy that is trained is the one renormalised over its nucleus.
        max_tokens: Longest completion.
        updates_per_batch: Optimiser steps per batch of rollouts; more than one makes the later ones off-policy.
        micro_batch_tokens: Tokens of prompts and completions that one forward pass may hold.
        share_prompt: Compute each prompt once for its group; false for models that cannot, which say so.
        gradient_checkpointing: Keep only what enters each layer: less memory, about a third more computing.
        max_grad_norm: The gradient is scaled down to this norm.
        rollouts: Whether groups without a signal are replaced, whether the next rollouts wait for rewards, and how much
            of a completion one step samples.
        failures: What happens when rewards cannot be computed.
        seed: Of the sampling; comes from ``seed_everything``.
        offload_optimizer: Keep the optimiser's state in the host's memory between its steps, and no gradients.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        optimizer: OptimizerCallable,
        beta: dict[str, float],
        policy: str = "embedded",
        objective: Objective = Objective(),  # noqa: B008  (frozen)
        advantage: GroupAdvantage = GroupAdvantage(),  # noqa: B008  (frozen)
        correction: ImportanceCorrection = ImportanceCorrection(),  # noqa: B008  (frozen)
        adapter: LoRA | None = None,
        reference: Anchor = "base",
        offload_reference: bool = False,
        group_size: int = 8,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 56,
        updates_per_batch: int = 1,
        micro_batch_tokens: int = 8192,
        share_prompt: bool = True,
        gradient_checkpointing: bool = False,
        max_grad_norm: float = 1.0,
        rollouts: RolloutPolicy = RolloutPolicy(),  # noqa: B008  (frozen)
        kl: KLTargets = KLTargets(),  # noqa: B008  (frozen)
        failures: FailurePolicy = FailurePolicy(),  # noqa: B008  (frozen)
        seed: int = 0,
        offload_optimizer: bool = False,
    ) -> None:
        sampling = Sampling(group_size, temperature, top_p, max_tokens)
        super().__init__(engine, tasks, optimizer, policy, adapter, sampling, failures, seed, offload_optimizer)
        check_settings(group_size, temperature, updates_per_batch, beta, tasks)
        self.kl = KLController(beta, kl)
        self.objective = objective
        self.correction = correction
        self.anchor, self.offload_reference = reference, offload_reference
        self.updates_per_batch, self.max_grad_norm = updates_per_batch, max_grad_norm
        self.micro_batch_tokens, self.share_prompt = micro_batch_tokens, share_prompt
        self.gradient_checkpointing = gradient_checkpointing
        self.samples_ahead = rollouts.async_rewards or rollouts.segment_tokens is not None
        self.collector = Collector(
            engine, tasks, sampling, advantage, self.monitor, seed, self.peers, self.watch, rollouts
        )

    def configure_model(self) -> None:
        """Load the policy, and the reference from the same weights, before any checkpoint is restored."""
        if hasattr(self, "model"):
            return
        mesh = self.device_mesh
        self.load(self.gradient_checkpointing, sharded=mesh is not None)
        self.reference = reference_policy(self.model, self.anchor, self.kl.beta, self.offload_reference, mesh)
        if mesh is not None:
            shard(self.model, mesh)

    def on_fit_start(self) -> None:
        """Check every prompt against the context, and hand the policy to the engine."""
        self.check_prompts(self.trainer.datamodule.train)  # type: ignore[attr-defined]
        for examples in self.trainer.datamodule.held_out.values():  # type: ignore[attr-defined]
            self.check_prompts(examples)
        if self.reference is not None:
            self.reference.to(self.device)
        check_processes(self.trainer.world_size)
        self.peers.open(self)
        self.attach()
        self.collector.attach(self.policy, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_stage_start(self, run: StageRun) -> None:
        """Anchor the reference anew, and tell the collector where rollouts must end."""
        if self.reference is not None and run.begins:
            self.reference.begin_stage(self.model)
        self.collector.stage = run

    def training_step(self, batch: list[Example], batch_idx: int) -> None:
        """Generate and score one batch of rollouts, update on it, and report."""
        self.watch.begin()
        rollouts = self.collector.collect(batch, self.steps_done)
        loss, norm, stats = self.update(rollouts)
        self.report(rollouts, loss, norm, stats)

    def update(self, rollouts: list[ScoredGroup]) -> tuple[float, float, list[TokenStats]]:
        """Take ``updates_per_batch`` optimiser steps; the last one's loss, gradient norm and statistics."""
        with self.watch.timed("update"):
            optimizer = self.optimizers()
            plan = UpdatePlan(
                rollouts,
                self.objective,
                self.kl.beta,
                self.sampling,
                self.micro_batch_tokens,
                self.share_prompt,
                self.device,
                self.correction,
            )
            for _ in range(self.updates_per_batch):
                optimizer.zero_grad()  # type: ignore[union-attr]
                with self.peers.watching(), own_gradients(self.trainer.model):
                    loss, stats = plan.accumulate(self.model, self.reference, self.manual_backward)
                sum_gradients(self.model.parameters())
                norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
                if not math.isfinite(norm) or not math.isfinite(loss):
                    raise TrainingDiverged(
                        f"step {self.steps_done}: loss {loss}, gradient norm {norm}; lower the learning rate "
                        f"(model.optimizer.init_args.lr) or raise model.beta, and continue from the last checkpoint"
                    )
                self.updating = True  # from here on the weights belong to no finished step
                optimizer.step()  # type: ignore[union-attr]
            self.steps_done += 1
            self.updating = False
            return loss, norm, stats

    def report(self, rollouts: list[ScoredGroup], loss: float, norm: float, stats: list[TokenStats]) -> None:
        """Log everything about the step, at the number of steps done."""
        rollouts, stats = gather_rows(rollouts), gather_rows(stats)
        tokens = sum(len(c.token_ids) for rollout in rollouts for c in rollout.group.completions)
        metrics = rollout_metrics(rollouts) | update_metrics(stats)
        self.collector.learned(rollouts)
        self.kl.observe(metrics)
        metrics |= self.collector.metrics() | self.kl.metrics() | {"train/loss": loss, "train/grad_norm": norm}
        metrics |= {f"train/seconds/{phase}": seconds for phase, seconds in self.watch.seconds.items()}
        metrics["train/tokens_per_second"] = tokens / sum(self.watch.seconds.values())
        self.last_rollouts, self.last_metrics = rollouts, metrics
        if stats and (
            warning := self.correction.warning(metrics["train/logprob_diff_mean"], metrics["train/logprob_diff_max"])
        ):
            log.warning("step %d: %s", self.steps_done, warning)
        # Not self.log_dict: Lightning would repeat a task's last values in every later step, rounded to
        # float32, and its own steps count optimiser steps.
        with self.peers.watching():
            for logger in self.loggers:
                logger.log_metrics(metrics, step=self.steps_done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the step, the reference policy where it is not the base model, and what has been learned on the way."""
        self.save_progress(checkpoint)
        checkpoint["reference"] = {} if self.reference is None else self.reference.state_dict()
        checkpoint["failures"] = self.monitor.state_dict()
        checkpoint["kl"] = self.kl.state_dict()
        checkpoint["rollouts"] = self.collector.state_dict(self.steps_done)
        checkpoint["carried"] = self.collector.carried.state_dict(self.steps_done)

    def on_load_checkpoint(self, checkpoint: MutableMapping[str, Any]) -> None:
        """Restore the same."""
        self.load_progress(checkpoint)
        if self.reference is not None:
            self.reference.load_state_dict(checkpoint["reference"])
        self.monitor.load_state_dict(checkpoint["failures"])
        self.kl.load_state_dict(checkpoint["kl"])
        self.collector.load_state_dict(checkpoint["rollouts"])
        self.collector.carried.load_state_dict(checkpoint["carried"])
