"""What every module that samples from a policy or trains it has in common."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.distributed.collectives import (
    check_processes,
    clip_gradients,
    gather_rows,
    process_rank,
    sum_gradients,
)
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import BadInput, OmniThinkError, TrainingDiverged
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.model.adapter import LoRA, build_policy, check_adapter, load_adapters, save_adapters
from omnithink_pl.model.checkpoint_file import share_tied
from omnithink_pl.model.compilation import compile_layers
from omnithink_pl.model.export import check_export
from omnithink_pl.model.memory import HostedState, MemorySettings
from omnithink_pl.model.policy import Policy, ready_to_train
from omnithink_pl.model.precision import compute_dtype, computing, gathered_in
from omnithink_pl.model.sharding import shard
from omnithink_pl.model.soundness import unsound
from omnithink_pl.rollout.agreement import check_agreement, short_prompts
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example

_SHOWN = 60  # characters of a prompt that is too long
_DIVERGED = (
    "; the last checkpoint is from before the update that went wrong: continue with --ckpt_path last and a lower "
    "learning rate, --model.optimizer.init_args.lr"
)


class PolicyModule(L.LightningModule, ABC):
    """A policy, its tasks and its engine: what callbacks, data and verbs need of a module."""

    policy: Policy
    model: torch.nn.Module
    longest_prompt = 0  # tokens, of those that were checked
    samples_ahead = False  # True where a step's rollouts are begun before the one before it has ended

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        policy: str,
        adapter: LoRA | None,
        sampling: Sampling,
        failures: FailurePolicy,
        seed: int,
        chat_template_kwargs: dict[str, Any] | None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.tasks = tasks
        self.policy_name = policy
        self.chat_template_kwargs = chat_template_kwargs or {}
        self.trust_remote_code = trust_remote_code
        self.adapter = adapter
        self.strict_loading = adapter is None  # a checkpoint of adapters has no frozen weights
        self.sampling = sampling
        self.monitor = FailureMonitor(failures)
        self.watch = Stopwatch()
        self.seed = seed
        self.barrier = FailureBarrier()
        self.steps_done = 0
        self.updating = False  # True while the weights belong to no step that is finished and tracked
        self.last_rollouts: list[ScoredGroup] = []  # of this process; see gather_rollouts
        self.last_metrics: dict[str, float] = {}

    def on_stage_start(self, run: StageRun) -> None:
        """Called before the first step of a stage, and with ``begins`` false on resuming or when its length changed."""

    def send(self, metrics: dict[str, float]) -> None:
        """Send the metrics of a step to the loggers, at the number of steps done."""
        self.last_metrics = metrics
        # Not self.log_dict: Lightning would repeat a task's last values in every later step, rounded to
        # float32, and its own steps count optimiser steps.
        with self.barrier.guard():
            for logger in self.loggers:
                logger.log_metrics(metrics, step=self.steps_done)

    def end_step(self) -> None:
        """Note that the step is finished and tracked, so that it can be saved."""
        self.updating = False

    def gather_rollouts(self) -> list[ScoredGroup]:
        """Gather the rollouts of the last step, with their texts, from all processes; all of them must call it."""
        return gather_rows(self.last_rollouts)

    def load(self, memory: MemorySettings = MemorySettings(), sharded: bool = False) -> None:  # noqa: B008  (frozen)
        """Load the policy, ready to be trained; if sharded, only the first process reads weights for ``shard``."""
        weights = not sharded or process_rank() == 0
        self.policy = build_policy(self.policy_name, self.adapter, self.seed, weights, self.trust_remote_code)
        self.policy.chat_template_kwargs = self.chat_template_kwargs
        if self._trainer is not None:  # a policy that is looked at without one computes as it is stored
            self.policy.compute = compute_dtype(self.trainer.precision)
        self.model = ready_to_train(self.policy.model, memory.gradient_checkpointing, memory.kept_layers)

    def attach(self) -> None:
        """Set up the failure barrier, and hand the policy to the engine and to the rewards that ask for it."""
        check_processes(self.trainer.world_size)
        self.barrier.setup(self)
        self.engine.attach(self.policy)
        for task in self.tasks.values():
            task.rubric.attach(self.policy, self.engine)

    def check_weights(self, error: type[OmniThinkError] = TrainingDiverged, cure: str = _DIVERGED) -> None:
        """Refuse a policy that computes NaN or nothing; all processes must call this, and all raise."""
        with computing(self.policy.model, self.policy.compute):
            problem = unsound(self.policy.model)
        if self.barrier.any_rank(bool(problem)):
            raise error(f"step {self.steps_done}: the policy is unsound: {problem or 'as another process says'}{cure}")

    def check_agreement(self, prompts: Sequence[list[int]], share_prompt: bool | None = None) -> None:
        """Refuse a policy that engine and training would not compute alike; ``share_prompt`` if it is trained."""
        self.check_weights(BadInput, f"; model.policy {self.policy_name} cannot be sampled from: take another one")
        with self.barrier.guard():
            check_agreement(self.policy, self.engine, prompts, self.sampling, share_prompt)

    def check_prompts(self, examples: Iterable[Example]) -> list[list[int]]:
        """Refuse prompts that leave no room for a completion; return the token ids of two short ones."""
        room = self.policy.context - self.sampling.max_tokens
        prompts: list[list[int]] = []
        long: list[tuple[Example, int]] = []
        for example in examples:
            prompt = self.policy.encode(example.messages)
            prompts.append(prompt)
            self.longest_prompt = max(self.longest_prompt, len(prompt))
            if len(prompt) > room:
                long.append((example, len(prompt)))
        if long:
            (first, length), others = long[0], len(long) - 1
            raise BadInput(
                f"data.tasks.{first.task}, row {first.uid}: its prompt of {length} tokens"
                f"{f' (and {others} more of {len(prompts)} prompts)' if others else ''} and model.sampling.max_tokens="
                f"{self.sampling.max_tokens} exceed the policy's context of {self.policy.context}; drop long rows by "
                f"curation.max_prompt_tokens of the source (the template comes on top), lower "
                f"model.sampling.max_tokens or take another policy. It begins: {first.question[:_SHOWN]!r}"
            )
        return short_prompts(prompts)


class TrainingModule(PolicyModule):
    """A policy that is trained by an optimiser."""

    hosted: HostedState | None = None
    configured: Sequence[dict[str, Any]] = ()  # settings of each of the optimiser's groups, as built

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        optimizer: OptimizerCallable,
        policy: str,
        adapter: LoRA | None,
        sampling: Sampling,
        memory: MemorySettings,
        max_grad_norm: float,
        failures: FailurePolicy,
        seed: int,
        chat_template_kwargs: dict[str, Any] | None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            engine, tasks, policy, adapter, sampling, failures, seed, chat_template_kwargs, trust_remote_code
        )
        self.optimizer = optimizer
        self.memory = memory
        self.max_grad_norm = max_grad_norm

    def configure_model(self) -> None:
        """Load the policy, sharded if the strategy says so, before any checkpoint is restored."""
        if hasattr(self, "model"):
            return
        mesh = self.device_mesh
        self.load(self.memory, sharded=mesh is not None)
        self.load_reference()
        if self.memory.compile_layers:
            compile_layers(self.model, self.trainer.strategy.root_device)
        if mesh is not None:
            shard(self.model, mesh, gathered_in(self.policy.compute))

    def load_reference(self) -> None:
        """Load what else is made of the policy's initial weights. Called before the policy is sharded."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimiser of the trainable parameters."""
        made = self.optimizer(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        self.configured = [
            {key: value for key, value in group.items() if key != "params"} for group in made.param_groups
        ]
        if self.memory.offload_optimizer:
            self.hosted = HostedState(made)
        return made

    def on_train_start(self) -> None:
        """Release optimiser state that a checkpoint has loaded, before anything is sampled.

        The optimiser's settings are those of the config: a checkpoint brings those that it was written with.
        """
        for optimizer in self.trainer.optimizers:
            # A subclass that builds its optimiser itself has none.
            for group, own in zip(optimizer.param_groups, self.configured, strict=False):
                group |= own | ({"initial_lr": own["lr"]} if "initial_lr" in group else {})  # a schedule's
        if self.hosted is not None:
            self.hosted.release()

    def check_policy(self, prompts: Sequence[list[int]], share_prompt: bool) -> None:
        """Refuse a policy that would be trained wrongly, or could not be saved, before anything is sampled."""
        self.check_agreement(prompts, share_prompt)
        model = self.policy.model
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        with self.barrier.guard():
            if process_rank() == 0:
                check_export(base, self.policy.tokenizer, self.trust_remote_code)

    def apply_gradients(self, loss: float, cure: str = "") -> float:
        """Sum the gradients over all processes, clip them, and take an optimiser step; return the norm before clipping.

        Args:
            loss: Of the batch.
            cure: What else than a lower learning rate would help against divergence.

        Raises:
            TrainingDiverged: If the loss or the norm is not finite; the weights are unchanged.
        """
        sum_gradients(self.model.parameters())
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise TrainingDiverged(f"step {self.steps_done}: loss {loss}, gradient norm {norm}{_DIVERGED}{cure}")
        self.updating = True  # until `end_step`
        optimizer = self.optimizers()
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]  # rollouts take the memory
        self.policy.weights_changed()
        return norm

    def finish_step(self) -> None:
        """Count the step: the weights belong to it now. Metrics and tables of it are still to be stored."""
        self.steps_done += 1

    def save_progress(self, checkpoint: dict[str, Any]) -> None:
        """Add the step to a checkpoint, and leave out frozen weights."""
        checkpoint["steps_done"] = self.steps_done
        share_tied(checkpoint["state_dict"], self)
        if self.adapter is not None:
            save_adapters(checkpoint, self)

    def load_progress(self, checkpoint: MutableMapping[str, Any]) -> None:
        """Restore the step, and refuse the checkpoint of another adapter."""
        self.steps_done = checkpoint["steps_done"]
        self.policy.weights_changed()
        if self.adapter is not None:
            check_adapter(checkpoint, self)
            load_adapters(checkpoint, self)
