"""Settings of a training run, grouped as they stand under ``model`` in a config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.objective import ImportanceCorrection

Reference = Literal["base", "stage"]


@dataclass(frozen=True)
class KLSettings:
    """KL penalty: its coefficients, its reference, and targets that coefficients may follow.

    Coefficients of tasks with a target follow the proportional controller in log space of Ziegler et al. 2019,
    "Fine-Tuning Language Models from Human Preferences" (arXiv 1909.08593, section 2.2), for each task k:

        e_k = clip((KL_k - target_k) / target_k, -clip, clip)
        beta_k <- beta_k (1 + gain e_k)

    KL_k is ``train/<task>/kl`` of a step: the mean over the tokens of the task's completions, in nats. (They use the
    sum over a completion; a mean does not depend on its length.) A step without the task leaves its beta unchanged.

    Args:
        beta: KL coefficient of each task, or its initial value where the task has a target. All 0: no reference is
            held or computed.
        reference: What the penalty pulls towards: the ``base`` model, or the policy at the ``stage``'s start. With an
            adapter neither needs a second model.
        targets: KL target of a task, in nats per token; the beta of tasks that are not named stays fixed.
        gain: K_beta: the largest relative change of beta in a step is ``gain`` times ``clip``.
        clip: Largest relative error that counts.

    Raises:
        BadInput: If a value is out of range, or a task with a target starts at beta 0, which no factor changes.
    """

    beta: dict[str, float] = field(default_factory=dict)
    reference: Reference = "base"
    targets: dict[str, float] = field(default_factory=dict)
    gain: float = 0.1
    clip: float = 0.2

    def __post_init__(self) -> None:
        for task, target in self.targets.items():
            if target <= 0.0:
                raise BadInput(f"model.kl.targets.{task} is {target}; use a positive number of nats per token")
            if self.beta.get(task, 0.0) <= 0.0:
                raise BadInput(
                    f"model.kl.targets.{task}: a target multiplies model.kl.beta.{task}, which is "
                    f"{self.beta.get(task, 'missing')}; start above 0, such as {task}: 0.01, or drop the target"
                )
        if not 0.0 < self.gain * self.clip < 1.0:
            raise BadInput(f"model.kl: gain {self.gain} times clip {self.clip} must lie between 0 and 1")


@dataclass(frozen=True)
class RolloutSettings:
    """When rollouts are sampled, and how many updates they are used for.

    Args:
        refill_rounds: How often, in one step, groups without a signal are replaced by groups of other prompts of
            their task. A group whose rewards are all equal teaches nothing but to stay near the reference.
        async_rewards: Sample the next step's rollouts before this step's rewards are awaited, so that slow rewards
            cost no time. They are then one step off-policy, never more, and their ratio is taken to the sampler's
            log-probabilities. The first rollouts of a stage are on-policy, and none outlives its stage.
        segment_tokens: Sample at most so many tokens of a completion in one step (partial rollouts), so that no step
            waits for the longest. A group with unfinished completions is continued in the next step, by the policy of
            that step, and is trained on once all of them are finished. Not given: each step finishes its completions.
        updates_per_batch: Optimiser steps per batch of rollouts; with more than one, all but the first are off-policy.
        correction: What to do where the engine's log-probabilities differ from the trainer's.

    Raises:
        BadInput: If a value is out of range.
    """

    refill_rounds: int = 0
    async_rewards: bool = False
    segment_tokens: int | None = None
    updates_per_batch: int = 1
    correction: ImportanceCorrection = ImportanceCorrection()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        if self.refill_rounds < 0:
            raise BadInput(f"model.rollouts.refill_rounds is {self.refill_rounds}; use 0 or more")
        if self.segment_tokens is not None and self.segment_tokens < 1:
            raise BadInput(f"model.rollouts.segment_tokens is {self.segment_tokens}; use 1 or more, or null")
        if self.updates_per_batch < 1:
            raise BadInput(f"model.rollouts.updates_per_batch is {self.updates_per_batch}; use 1 or more")


@dataclass(frozen=True)
class MemorySettings:
    """Memory against speed; results do not depend on these settings.

    Args:
        micro_batch_tokens: Tokens of prompts and completions that one forward pass may hold.
        share_prompt: Compute each prompt once for its group; false for models that cannot, which say so. Supervised
            fine-tuning has no groups and does not read it.
        gradient_checkpointing: Keep only the input of each layer: less memory, about a third more computing.
        offload_reference: Keep a second model in host memory except while its log-probabilities are computed.
        offload_optimizer: Keep the optimiser's state in host memory between its steps, and free gradients.

    Raises:
        BadInput: If a value is out of range.
    """

    micro_batch_tokens: int = 8192
    share_prompt: bool = True
    gradient_checkpointing: bool = False
    offload_reference: bool = False
    offload_optimizer: bool = False

    def __post_init__(self) -> None:
        if self.micro_batch_tokens < 1:
            raise BadInput(f"model.memory.micro_batch_tokens is {self.micro_batch_tokens}; use 1 or more")
