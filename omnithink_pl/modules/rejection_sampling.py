"""Sampling completions of the training prompts and scoring them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from omnithink_pl.data.batches import PromptBatch
from omnithink_pl.distributed.shard_work import ShardedWork, check_divisible
from omnithink_pl.endings import no_silent_end
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailurePolicy
from omnithink_pl.modules.base import PolicyModule
from omnithink_pl.prompts.worked import load_worked_examples, with_worked_examples
from omnithink_pl.rewards.scoring import score_batch
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Group


@final
class RejectionSampling(PolicyModule):
    """Samples completions from a policy and scores them with the rewards of training, for rejection sampling.

    With worked examples a policy that does not know the form of an answer still writes it. They are shown while
    sampling only: scores, and what fine-tuning on the completions learns, belong to the plain prompts (context
    distillation, Askell et al. 2021, arXiv 2112.00861).

    The prompts of each batch are sharded among processes, and all of them get the results. Which completions are kept,
    and where, is decided by the ``demonstrations`` callback.

    Args:
        engine: Samples the completions.
        tasks: The tasks by name; comes from ``data.tasks``.
        policy: ``embedded``, a directory, or a hub id, in Hugging Face format.
        sampling: How completions are sampled; the paper draws 128 of each prompt.
        worked_examples: Shown as earlier turns before each prompt of their task: ``worked_v1``, or a ``.jsonl`` file.
        failures: What happens when rewards cannot be computed; a task cannot be paused here.
        seed: Of the sampling; comes from ``seed_everything``.
        chat_template_kwargs: Arguments of the policy's chat template, such as ``{enable_thinking: false}`` for Qwen3.
        trust_remote_code: Run Python code that comes with the policy, with all that this user may do: its author can
            read keys and change files. Only for code that you have read; false refuses a policy that needs it.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tasks: dict[str, Task],
        policy: str = "embedded",
        sampling: Sampling = Sampling(group_size=16, max_tokens=56),  # noqa: B008  (frozen)
        worked_examples: str | None = None,
        failures: FailurePolicy = FailurePolicy(),  # noqa: B008  (frozen)
        seed: int = 0,
        chat_template_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(engine, tasks, policy, None, sampling, failures, seed, chat_template_kwargs, trust_remote_code)
        if failures.on_outage == "pause":
            raise BadInput("model.failures.on_outage is pause, but sampling has no stage to go on with; use stop")
        self.worked_examples = {} if worked_examples is None else load_worked_examples(worked_examples)

    def configure_model(self) -> None:
        """Load the policy."""
        if not hasattr(self, "model"):
            self.load()

    def on_predict_start(self) -> None:
        """Check every prompt against the context, hand the policy to the engine, and check that they agree."""
        check_divisible(self.trainer.strategy, "predict")
        shown = [self._shown(example) for example in self.trainer.datamodule.train]  # type: ignore[attr-defined]
        prompts = self.check_prompts(shown)
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

    def _shown(self, example: Example) -> Example:
        """Return an example with the prompt that is sampled from."""
        turns = self.worked_examples.get(example.task, ())
        return replace(example, messages=with_worked_examples(example.messages, turns))

    def _sample(self, examples: Sequence[Example]) -> list[ScoredGroup]:
        prompts = [tuple(self.policy.encode(self._shown(example).messages)) for example in examples]
        seeds = keyed_seeds((example.key for example in examples), self.seed, "predict")
        sampled = self.engine.generate(prompts, self.sampling, seeds)
        groups = [Group(*parts) for parts in zip(examples, prompts, sampled, strict=True)]
        rubrics = {name: task.rubric for name, task in self.tasks.items()}
        scores = score_batch(groups, rubrics, self.monitor.policy.reward_timeout)
        return [ScoredGroup(one, tuple(row), (None,) * len(row)) for one, row in zip(groups, scores, strict=True)]
