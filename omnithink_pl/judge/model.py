"""A language model in this process as judge: the policy itself, or a second model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, final

import torch

from omnithink_pl.distributed.collectives import process_count
from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import JudgeUnavailable
from omnithink_pl.judge.pairwise import Letter, OrderedPair, PairwiseJudge, parse_verdict
from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.sharding import sharded_modules
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rewards.base import Awaits
    from omnithink_pl.rollout.base import RolloutEngine


@final
class ModelJudge(PairwiseJudge):
    """Needs no server. Greedy, in both orders; a disagreement is a tie.

    The policy as its own judge drifts with its training, towards what it has come to like; therefore nothing is
    cached. Without its adapters (``base``) it is the initial model, and does not drift.

    Args:
        model: The judge, a directory or hub id in Hugging Face format; null for the policy in training, which is
            asked through its own rollout engine.
        base: Ask the policy without its adapters, which needs ``model.adapter``: meanwhile the engine has the base
            model's weights.
        prompt: Version of a prompt of this package, or the path of another.
        max_tokens: Longest reply.
        batch_rows: Questions that a second model answers at the same time.
        device: Device of a second model, such as ``cuda``; the CPU if null.
        conversation_prompt: As ``prompt``, for conversations of more than one turn.
        chat_template_kwargs: Arguments of a second model's chat template, such as ``{enable_thinking: false}``.
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
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(prompt, conversation_prompt)
        if base and model is not None:
            raise BadInput("judge.base asks the policy that is trained, judge.model another; set one of them")
        self.model = model
        self.base = base
        self.max_tokens = max_tokens
        self.batch_rows = batch_rows
        self.device = device
        self.chat_template_kwargs = chat_template_kwargs or {}
        self.awaits: Awaits = "policy" if model is None else "group"
        self._attached: tuple[Policy, RolloutEngine] | None = None

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Take the policy in training as judge, unless there is a second model; ``BadInput`` if it cannot judge."""
        if self.model is not None:
            return
        if self.base and not hasattr(policy.model, "peft_config"):
            raise BadInput(
                "judge.base: the policy has no adapters to take away; set model.adapter, or name a judge.model"
            )
        collective = getattr(engine, "tensor_parallel_size", 1) > 1 or (
            bool(sharded_modules(policy.model)) and (self.base or isinstance(engine, TransformersEngine))
        )
        if collective:
            raise BadInput(
                "judge.model is null, so the policy judges; its weights are divided among processes, which judge at "
                "different times. Name a second model"
            )
        if self.base and getattr(engine, "shared", False) and process_count() > 1:
            raise BadInput(
                "judge.base: all processes share the engine, and judge at different times; while one of them judged "
                "with the base model's weights, so would the others sample. Name a judge.model, or train in one process"
            )
        self._attached = (policy, engine)

    def close(self) -> None:
        """Release a second model; it is loaded again when asked again."""
        if self.model is not None:
            self._attached = None

    def ask(self, pairs: list[OrderedPair]) -> list[Letter | JudgeUnavailable]:
        """Return one verdict, or why there is none, per pair, in order; ``BadInput`` if there is no policy yet."""
        if self._attached is None:
            self._attached = self._load()
        policy, engine = self._attached
        prompts = [policy.encode(pair.messages(self.prompt_for(pair))) for pair in pairs]
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + self.max_tokens <= policy.context]
        self.statistics.count(pairs=len(pairs))
        verdicts: list[Letter | JudgeUnavailable] = [
            JudgeUnavailable(f"{len(prompt)} tokens exceed the judge's context", "request refused")
            for prompt in prompts
        ]
        if not fitting:
            return verdicts
        greedy = Sampling(1, 0.0, 1.0, self.max_tokens)
        with without_adapters(policy, engine) if self.base else nullcontext():
            replies = engine.generate([prompts[i] for i in fitting], greedy, [0] * len(fitting))
        for i, (reply,) in zip(fitting, replies, strict=True):
            letter = parse_verdict(reply.text)
            self.statistics.count(replies=1, unparseable=letter is None)
            self.statistics.count(prompt_tokens=len(prompts[i]), completion_tokens=len(reply.token_ids))
            verdicts[i] = letter or JudgeUnavailable("no verdict in the reply", "unparseable")
        return verdicts

    def _load(self) -> tuple[Policy, RolloutEngine]:
        if self.model is None:
            raise BadInput("judge.model is null, so the policy judges, and only training has one; name a model")
        policy = load_policy(self.model)
        policy.chat_template_kwargs = self.chat_template_kwargs
        policy.model.to(torch.device(self.device or "cpu"))
        engine = TransformersEngine(self.batch_rows)
        engine.attach(policy)
        return policy, engine


@contextmanager
def without_adapters(policy: Policy, engine: RolloutEngine) -> Iterator[None]:
    """Let the engine sample from the policy without its adapters (LoRA) inside the context."""
    from peft.helpers import rescale_adapter_scale

    try:
        with rescale_adapter_scale(policy.model, 0.0):
            policy.weights_changed()
            engine.sync()
            yield
    finally:
        policy.weights_changed()
    engine.sync()
