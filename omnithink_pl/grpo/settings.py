"""Settings of a training run, grouped as they stand under ``model`` in a config."""

from __future__ import annotations

from dataclasses import dataclass

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.objective import ImportanceCorrection


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
