"""Sampling completions of the training prompts and scoring them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from omnithink_pl.data.batches import PromptBatch
from omnithink_pl.distributed.shard_work import ShardedWork, check_divisible
from omnithink_pl.endings import no_silent_end
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailurePolicy
from omnithink_pl.modules.base import PolicyModule
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Group


@final
class RejectionSampling(PolicyModule):
    """Samples completions from a policy and scores them with the rewards of training, for rejection sampling.

    The prompts of each batch are sharded among processes, and all of them get the results. Which completions are kept,
    and where, is decided by the ``demonstrations`` callback.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name; comes from ``data.tasks``.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        sampling: How completions are sampled; the paper draws 128 of each prompt.
        failures: What happens when rewards cannot be computed; a task cannot be paused here.
        seed: Of the sampling; comes from ``seed_everything``.
        chat_template_kwargs: Arguments of the policy's chat template, such as ``{enable_thinking: false}`` for Qwen3.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        policy: str = "embedded",
        sampling: Sampling = Sampling(group_size=16, max_tokens=56),  # noqa: B008  (frozen)
        failures: FailurePolicy = FailurePolicy(),  # noqa: B008  (frozen)
        seed: int = 0,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(engine, tasks, policy, None, sampling, failures, seed, chat_template_kwargs)
        if failures.on_outage == "pause":
            raise BadInput("model.failures.on_outage is pause, but sampling has no stage to go on with; use stop")

    def configure_model(self) -> None:
        """Load the policy."""
        if not hasattr(self, "model"):
            self.load()

    def on_predict_start(self) -> None:
        """Check every prompt against the context, hand the policy to the engine, and check that they agree."""
        check_divisible(self.trainer.strategy, "predict")
        prompts = self.check_prompts(self.trainer.datamodule.train)  # type: ignore[attr-defined]
        self.attach()
        self.check_agreement(prompts)

    @no_silent_end("a step")
    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[ScoredGroup]:
        """Sample and score a batch, as a function of the seed and its prompts alone; return all of it everywhere.

        Raises:
            RewardFailure: If a task's rewards fail too often.
        """
        sharded = ShardedWork(self.barrier)
        scored = sharded.gather(lambda: self._sample(sharded.shard(batch.examples)))
        self.monitor.observe(scored, batch.number)
        return scored

    def _sample(self, examples: Sequence[Example]) -> list[ScoredGroup]:
        prompts = [tuple(self.policy.encode(example.messages)) for example in examples]
        seeds = keyed_seeds((example.key for example in examples), self.seed, "predict")
        sampled = self.engine.generate(prompts, self.sampling, seeds)
        groups = [Group(*parts) for parts in zip(examples, prompts, sampled, strict=True)]
        rubrics = {name: task.rubric for name, task in self.tasks.items()}
        scores = score_batch(groups, rubrics, self.monitor.policy.reward_timeout)
        return [ScoredGroup(one, tuple(row), (None,) * len(row)) for one, row in zip(groups, scores, strict=True)]
