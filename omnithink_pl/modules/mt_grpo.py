"""Multi-Task GRPO as a LightningModule."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from itertools import chain
from typing import Any, final

from lightning.pytorch.cli import OptimizerCallable

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.distributed.collectives import gather_rows, no_gradient_sync
from omnithink_pl.endings import no_silent_end
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.collapse import CollapseAlarm
from omnithink_pl.grpo.collection import Collector, RolloutSettings
from omnithink_pl.grpo.failures import FailurePolicy
from omnithink_pl.grpo.kl_control import KLController, KLSettings
from omnithink_pl.grpo.metrics import rollout_metrics, update_metrics
from omnithink_pl.grpo.objective import Objective
from omnithink_pl.grpo.overlong import Overlong
from omnithink_pl.grpo.reference import ReferencePolicy, reference_policy
from omnithink_pl.grpo.update import TokenStats, UpdatePlan, sum_by_task
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.logprobs import check_shareable
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.model.precision import computing
from omnithink_pl.modules.base import TrainingModule
from omnithink_pl.rollout.agreement import check_dtypes
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example

log = logging.getLogger(__name__)


@final
class MultiTaskGRPO(TrainingModule):
    """One policy trained on several tasks: sample, score, advantages, objective, update, log.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name; comes from ``data.tasks``.
        optimizer: Builds the optimiser from the policy's parameters.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        adapter: Train low-rank adapters beside the frozen policy; all of its weights if not given.
        sampling: How completions are sampled.
        kl: KL penalty of each task.
        objective: Clip, ratio and aggregation.
        advantage: How rewards of a group become advantages.
        overlong: What happens to completions that are cut off, or nearly so.
        rollouts: When rollouts are sampled, and how many updates they are used for.
        memory: Memory against speed; results do not depend on it.
        max_grad_norm: The gradient is scaled down to this norm.
        failures: What happens when rewards cannot be computed.
        seed: Of the sampling; comes from ``seed_everything``.
        chat_template_kwargs: Arguments of the policy's chat template, such as ``{enable_thinking: false}`` for Qwen3.
        trust_remote_code: Run Python code that comes with the policy, with all that this user may do: its author can
            read keys and change files. Only for code that you have read; false refuses a policy that needs it.

    Raises:
        BadInput: If the settings cannot train; names the key and the cure.
    """

    reference: ReferencePolicy | None

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        optimizer: OptimizerCallable,
        policy: str = "embedded",
        adapter: LoRA | None = None,
        sampling: Sampling = Sampling(group_size=8, max_tokens=56),  # noqa: B008  (frozen)
        kl: KLSettings = KLSettings(),  # noqa: B008  (frozen)
        objective: Objective = Objective(),  # noqa: B008  (frozen)
        advantage: GroupAdvantage = GroupAdvantage(),  # noqa: B008  (frozen)
        overlong: Overlong = Overlong(),  # noqa: B008  (frozen)
        rollouts: RolloutSettings = RolloutSettings(),  # noqa: B008  (frozen)
        memory: MemorySettings = MemorySettings(),  # noqa: B008  (frozen)
        max_grad_norm: float = 1.0,
        failures: FailurePolicy = FailurePolicy(),  # noqa: B008  (frozen)
        seed: int = 0,
        chat_template_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            engine, tasks, optimizer, policy, adapter, sampling, memory, max_grad_norm, failures, seed,
            chat_template_kwargs, trust_remote_code,
        )  # fmt: skip
        _check_sampling(sampling)
        overlong.check(sampling.max_tokens)
        self.kl = KLController(kl, tasks)
        self.objective = objective
        self.rollouts = rollouts
        self.collapse = CollapseAlarm(divided=advantage.scale == "std")
        self.samples_ahead = rollouts.async_rewards or rollouts.segment_tokens is not None
        self.collector = Collector(
            engine, tasks, sampling, advantage, self.monitor, seed, self.barrier, self.watch, rollouts, overlong
        )

    def load_reference(self) -> None:
        """Load the reference from the policy's initial weights."""
        settings, offload = self.kl.settings, self.memory.offload_reference
        self.reference = reference_policy(self.model, settings, offload, self.device_mesh, self.policy.compute)

    def on_fit_start(self) -> None:
        """Check every prompt against the context, hand the policy to the engine, and check that they agree."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        prompts = self.check_prompts(data.train)
        if self.memory.share_prompt:
            check_shareable(self.policy.model, self.longest_prompt + self.sampling.max_tokens)
        self.check_prompts(chain.from_iterable(data.held_out.values()))
        if self.reference is not None:
            self.reference.to(self.device)
        check_dtypes(self.policy, self.engine, corrected=self.rollouts.correction.level != "none")
        self.attach()
        self.collector.attach(self.policy, data)
        self.check_policy(prompts, self.memory.share_prompt)

    def on_stage_start(self, run: StageRun) -> None:
        """Anchor the reference anew if the stage begins, and tell the collector where rollouts must end."""
        if self.reference is not None and run.begins:
            self.reference.begin_stage(self.model)
        self.collector.stage = run
        if run.begins:
            self.collapse.begin_stage()

    @no_silent_end("a step")
    def training_step(self, batch: list[Example], batch_idx: int) -> None:
        """Collect a batch of rollouts, update on it, and log."""
        self.watch.begin()
        rollouts = self.collector.collect(batch, self.steps_done)
        with self.watch.timed("update"):
            loss, norm, stats = self.update(rollouts)
        self.last_rollouts = rollouts
        self.log_step({"train/loss": loss, "train/grad_norm": norm}, stats)

    def update(self, rollouts: list[ScoredGroup]) -> tuple[float, float, list[TokenStats]]:
        """Take ``updates_per_batch`` optimiser steps; return the last one's loss, gradient norm and statistics."""
        plan = UpdatePlan(
            rollouts, self.objective, self.rollouts.correction, self.kl.beta, self.sampling, self.memory, self.device
        )
        for _ in range(self.rollouts.updates_per_batch):
            with (
                self.barrier.guard(),
                no_gradient_sync(self.trainer.model),
                computing(self.model, self.policy.compute),
            ):
                loss, stats = plan.accumulate(self.model, self.reference, self.manual_backward)
            norm = self.apply_gradients(loss, cure=", or a higher --model.kl.beta")
        self.finish_step()
        return loss, norm, stats

    def log_step(self, metrics: dict[str, float], stats: list[TokenStats]) -> None:
        """Log the step, and let the KL coefficients and the task sampler follow what it measured."""
        groups = self.collector.trained
        metrics = rollout_metrics(groups) | update_metrics(gather_rows(sum_by_task(stats))) | metrics
        self.collector.observe_step()
        self.kl.observe(metrics)
        metrics |= self.collector.metrics() | self.kl.metrics()
        metrics |= {f"train/seconds/{phase}": seconds for phase, seconds in self.watch.seconds.items()}
        tokens = sum(sum(group.lengths) for group in groups)
        metrics["train/tokens_per_second"] = tokens / sum(self.watch.seconds.values())
        differences = metrics.get("train/logprob_diff_mean", 0.0), metrics.get("train/logprob_diff_max", 0.0)
        for warning in filter(None, (self.rollouts.correction.warning(*differences), self.collapse.warning(groups))):
            log.warning("step %d: %s", self.steps_done, warning)
        self.send(metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the step, a reference that is not the base model, failures, KL coefficients and pending rollouts."""
        self.save_progress(checkpoint)
        checkpoint["reference"] = {} if self.reference is None else self.reference.state_dict()
        checkpoint["failures"] = self.monitor.state_dict()
        checkpoint["kl"] = self.kl.state_dict()
        checkpoint["rollouts"] = self.collector.state_dict(self.steps_done)

    def on_load_checkpoint(self, checkpoint: MutableMapping[str, Any]) -> None:
        """Restore the same."""
        self.load_progress(checkpoint)
        if self.reference is not None:
            self.reference.load_state_dict(checkpoint["reference"])
        self.monitor.load_state_dict(checkpoint["failures"])
        self.kl.load_state_dict(checkpoint["kl"])
        self.collector.load_state_dict(checkpoint["rollouts"])


def _check_sampling(sampling: Sampling) -> None:
    """Refuse settings that cannot train."""
    if sampling.group_size < 2:
        raise BadInput(
            f"model.sampling.group_size is {sampling.group_size}; advantages compare completions, so use 2 or more"
        )
    if sampling.temperature == 0.0:
        raise BadInput("model.sampling.temperature is 0; training samples, so use a positive temperature")
