"""What every module that trains or samples from a policy has in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable

from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.distributed.failure_barrier import Peers
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.model.adapter import LoRA, build_policy, check_adapter, load_adapters, save_adapters
from omnithink_pl.model.offload import HostedState
from omnithink_pl.model.policy import ready_to_train
from omnithink_pl.rollout.base import Sampling

if TYPE_CHECKING:
    from omnithink_pl.curriculum.stages import StageRun
    from omnithink_pl.grpo.advantage import ScoredGroup
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.tasks.base import Task
    from omnithink_pl.types import Example


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is no longer a number."""


class PolicyModule(L.LightningModule, ABC):
    """A policy, its tasks and its engine; what callbacks, data and verbs ask of a module.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name.
        optimizer: Builds the optimiser from the policy's parameters.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        adapter: Train low-rank adapters beside the frozen policy; all of its weights if not given.
        sampling: How completions are drawn.
        failures: What happens when rewards cannot be computed.
        seed: Of the sampling.
        offload_optimizer: Keep the optimiser's state in the host's memory between its steps.
    """

    policy: Policy
    hosted: HostedState | None = None
    samples_ahead = False  # True where a step's rollouts are begun before the one before it has ended

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        optimizer: OptimizerCallable,
        policy: str,
        adapter: LoRA | None,
        sampling: Sampling,
        failures: FailurePolicy,
        seed: int,
        offload_optimizer: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.tasks = tasks
        self.optimizer = optimizer
        self.policy_name = policy
        self.adapter = adapter
        self.strict_loading = adapter is None  # a checkpoint of adapters has no frozen weights
        self.sampling = sampling
        self.monitor = FailureMonitor(failures)
        self.watch = Stopwatch()
        self.seed = seed
        self.offload_optimizer = offload_optimizer
        self.peers = Peers()
        self.steps_done = 0
        self.updating = False  # True while the weights belong to no finished step
        self.last_rollouts: list[ScoredGroup] = []
        self.last_metrics: dict[str, float] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of what is trained."""
        made = self.optimizer(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        if self.offload_optimizer:
            self.hosted = HostedState(made)
        return made

    def on_train_start(self) -> None:
        """Let go of what a checkpoint has brought, before anything is sampled."""
        if self.hosted is not None:
            self.hosted.release()

    def on_stage_start(self, run: StageRun) -> None:
        """Called before the first step of a stage, and with ``begins`` false on resuming or when its length changed."""

    def on_stage_end(self, run: StageRun) -> None:
        """Called when all tasks have been evaluated after a stage."""

    def load(self, gradient_checkpointing: bool = False, sharded: bool = False) -> None:
        """Load the policy, ready to be trained.

        Args:
            gradient_checkpointing: Keep only what enters each layer: less memory, about a third more computing.
            sharded: The first process alone reads the weights; :func:`shard` must follow, and gives each its part.
        """
        weights = not sharded or process_rank() == 0
        self.policy = build_policy(self.policy_name, self.adapter, self.seed, weights)
        self.model = ready_to_train(self.policy.model, gradient_checkpointing)

    def attach(self) -> None:
        """Hand the policy to the engine, and both to the rewards that ask for them."""
        self.engine.attach(self.policy)
        for task in self.tasks.values():
            task.rubric.attach(self.policy, self.engine)

    def check_prompts(self, examples: Sequence[Example]) -> None:
        """Refuse a prompt that leaves no room for a completion.

        Raises:
            BadInput: Names the task, the row and the cure.
        """
        for example in examples:
            length = len(self.policy.encode(example.messages))
            if length + self.sampling.max_tokens > self.policy.context:
                raise BadInput(
                    f"data.tasks.{example.task}, row {example.uid}: its prompt of {length} tokens and "
                    f"model.max_tokens={self.sampling.max_tokens} exceed the policy's context of "
                    f"{self.policy.context}; drop the row, lower model.max_tokens or take another policy"
                )

    def save_progress(self, checkpoint: dict[str, Any]) -> None:
        """Add the step to a checkpoint, and take out what is not trained."""
        checkpoint["steps_done"] = self.steps_done
        if self.hosted is not None:
            self.hosted.release()  # the optimiser's state is in the checkpoint by now
        if self.adapter is not None:
            save_adapters(checkpoint, self, sharded=self.device_mesh is not None)

    def load_progress(self, checkpoint: MutableMapping[str, Any]) -> None:
        """Restore the step, and refuse the checkpoint of another adapter."""
        self.steps_done = checkpoint["steps_done"]
        if self.adapter is not None:
            check_adapter(checkpoint, self)
            if self.device_mesh is None:  # otherwise Lightning has loaded it already, by its names
                load_adapters(checkpoint, self)
