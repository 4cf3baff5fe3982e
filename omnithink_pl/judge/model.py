"""A language model in this process as judge: the policy itself, or a second model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, final

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import (
    Comparison,
    JudgeUnavailable,
    PairwisePrompts,
    Preference,
    Round,
    judge_both_orders,
    parse_verdict,
)
from omnithink_pl.judge.cache import JudgeStatistics
from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.sharding import sharded_modules
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine

if TYPE_CHECKING:
    from omnithink_pl.judge.base import Letter
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rewards.base import Awaits
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.types import Completion


@final
class ModelJudge:
    """Needs no server. Greedy, in both orders; a disagreement is a tie.

    The policy as its own judge drifts while it is trained: what it rewards is what it has come to like. Nothing is
    cached, for that reason. Without its adapters it is the model that it was at first, and does not drift.

    Args:
        model: The judge, a directory or hub id in Hugging Face format; null for the policy that is trained, which
            is asked through its own rollout engine.
        base: Ask the policy without its adapters, which needs ``model.adapter``: the engine has the base model's
            weights for the while.
        prompt: Version of a prompt of this package, or the path of another.
        max_tokens: Longest reply.
        batch_rows: Questions that a second model answers at the same time.
        device: Where a second model lies, such as ``cuda``; the CPU if null.
        conversation_prompt: As ``prompt``, for conversations of more than one turn.
    """

    def __init__(
        self,
        model: str | None = None,
        base: bool = False,
        prompt: str = "pairwise_v1",
        max_tokens: int = 512,
        batch_rows: int = 32,
        device: str | None = None,
        conversation_prompt: str = "pairwise_turns_v1",
    ) -> None:
        if base and model is not None:
            raise BadInput("judge.base asks the policy that is trained, judge.model another; set one of them")
        self.model = model
        self.base = base
        self.prompts = PairwisePrompts.load(prompt, conversation_prompt)
        self.max_tokens = max_tokens
        self.batch_rows = batch_rows
        self.device = device
        self.awaits: Awaits = "policy" if model is None else "group"
        self._asked: tuple[Policy, RolloutEngine] | None = None
        self._statistics = JudgeStatistics()

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Take the policy that is trained as judge, unless there is a second model.

        Raises:
            BadInput: If it cannot judge: without adapters to take away, or where processes would have to ask together.
        """
        if self.model is not None:
            return
        if self.base and not hasattr(policy.model, "peft_config"):
            raise BadInput(
                "judge.base: the policy has no adapters to take away; set model.adapter, or name a judge.model"
            )
        together = getattr(engine, "tensor_parallel_size", 1) > 1 or (
            bool(sharded_modules(policy.model)) and (self.base or isinstance(engine, TransformersEngine))
        )
        if together:
            raise BadInput(
                "judge.model is null, so the policy judges; its weights are divided among processes, which judge at "
                "different times. Name a second model"
            )
        self._asked = (policy, engine)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """One preference, or why there is none, per comparison, in order.

        Raises:
            BadInput: If the policy is to judge, and there is none: outside training.
        """
        judged = judge_both_orders(comparisons, self._ask)
        self._statistics.judged(judged)
        return [one.verdict for one in judged]

    def metrics(self) -> dict[str, float]:
        """Rates and tokens since the last call."""
        return self._statistics.metrics()

    def close(self) -> None:
        """Let a second model go; it is loaded again when asked again."""
        if self.model is not None:
            self._asked = None

    def _ask(self, rounds: list[Round]) -> list[Letter | JudgeUnavailable]:
        policy, engine = self._judge()
        prompts = [policy.encode(one.messages(self.prompts.of(one.comparison.turns))) for one in rounds]
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + self.max_tokens <= policy.context]
        said: list[Letter | JudgeUnavailable] = [
            JudgeUnavailable(f"{len(prompt)} tokens exceed the judge's context", "request refused")
            for prompt in prompts
        ]
        sampling = Sampling(1, 0.0, 1.0, self.max_tokens)
        replies: list[tuple[Completion, ...]] = []
        if fitting:
            with without_adapters(policy, engine) if self.base else nullcontext():
                replies = engine.generate([prompts[i] for i in fitting], sampling, [0] * len(fitting))
        self._statistics.count(rounds=len(rounds))
        for i, (reply,) in zip(fitting, replies, strict=True):
            letter = parse_verdict(reply.text)
            self._statistics.count(
                replies=1,
                unparseable=letter is None,
                prompt_tokens=len(prompts[i]),
                completion_tokens=len(reply.token_ids),
            )
            said[i] = letter or JudgeUnavailable("no verdict in the reply", "unparseable")
        return said

    def _judge(self) -> tuple[Policy, RolloutEngine]:
        if self._asked is None:
            if self.model is None:
                raise BadInput("judge.model is null, so the policy judges, and only training has one; name a model")
            policy = load_policy(self.model)
            policy.model.to(torch.device(self.device or "cpu"))
            engine = TransformersEngine(self.batch_rows)
            engine.attach(policy)
            self._asked = (policy, engine)
        return self._asked


@contextmanager
def without_adapters(policy: Policy, engine: RolloutEngine) -> Iterator[None]:
    """The engine samples from the policy without its adapters (LoRA) for the while, and then from all of it again."""
    from peft.helpers import rescale_adapter_scale

    try:
        with rescale_adapter_scale(policy.model, 0.0):
            policy.weights_changed()
            engine.sync()
            yield
    finally:
        policy.weights_changed()
    engine.sync()
