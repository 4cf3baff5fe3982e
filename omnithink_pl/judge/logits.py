"""A language model in this process as judge, read from the logits of its first token: for small models, on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, final

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference
from omnithink_pl.judge.pairwise import JudgeStatistics, Judgment, OrderedPair, PairwisePrompt
from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.sharding import sharded_modules

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rewards.base import Awaits
    from omnithink_pl.rollout.base import RolloutEngine


@final
class LogitJudge:
    """Asks for one letter in both orders and compares log-probabilities; generates nothing and always has a verdict.

    A small model seldom ends a reply with a verdict that can be read, and prefers a place, say answer A, to either
    answer, so that nearly all pairs would be ties. With m = log p(A) - log p(B), a candidate's lead is

        (m(candidate first) - m(candidate second)) / 2,

    in which a preference for a place cancels: it wins with a lead above ``margin``, loses with one below ``-margin``.

    Without ``model`` the policy's base judges: with LoRA the policy without its adapters, else the weights at
    ``model.policy``, loaded a second time and never trained. Neither drifts with the policy.

    Args:
        model: The judge, a directory or hub id in Hugging Face format; null for the policy's base.
        margin: Smallest lead that is no tie, in nats.
        dtype: Of the weights that are loaded. Small models lead by less than 0.1 nats, which bfloat16 may round away.
        device: Of the weights that are loaded, such as ``cuda``; the CPU if null.
        prompt: Version of a prompt of this package, or the path of another; it must ask for A or B.
    """

    def __init__(
        self,
        model: str | None = None,
        margin: float = 0.0,
        dtype: Literal["float32", "bfloat16"] = "float32",
        device: str | None = None,
        prompt: str = "letter_v1",
    ) -> None:
        if margin < 0:
            raise BadInput(f"judge.margin is {margin}; use 0 or more")
        self.model = model
        self.margin = margin
        self.dtype = dtype
        self.device = device
        self.prompt = PairwisePrompt.load(prompt)
        self.awaits: Awaits = "policy" if model is None else "group"
        self.statistics = JudgeStatistics()
        self._adapted: Policy | None = None  # the policy in training, whose adapters are taken away to judge
        self._loaded: Policy | None = None

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Take the base of the policy in training as judge, unless a model is named."""
        if self.model is not None:
            return
        if not hasattr(policy.model, "peft_config"):
            self.model = policy.model.name_or_path
        elif sharded_modules(policy.model):
            raise BadInput(
                "judge.model is null, so the policy's base judges; its weights are divided among processes, which "
                "judge at different times. Name a model"
            )
        else:
            self._adapted = policy

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """Return one preference, or why there is none, per comparison, in order; ``BadInput`` if there is no model."""
        if not comparisons:
            return []
        with self._judging() as judge:
            found = {one: self._judge(judge, one) for one in dict.fromkeys(comparisons)}
        judged = [found[one] for one in comparisons]
        self.statistics.add(judged)
        return [judgment.verdict for judgment in judged]

    def metrics(self) -> dict[str, float]:
        """Return the rates of verdicts since the last call; flips are pairs in which a place was preferred."""
        return self.statistics.metrics()

    def close(self) -> None:
        """Release loaded weights; they are loaded again when asked again."""
        self._loaded = None

    def _judge(self, judge: Policy, comparison: Comparison) -> Judgment:
        leads: list[float] = []
        for first in (True, False):
            prompt = judge.encode(OrderedPair(comparison, first).messages(self.prompt))
            self.statistics.count(pairs=1, prompt_tokens=len(prompt))
            if len(prompt) >= judge.context:
                refused = JudgeUnavailable(f"{len(prompt)} tokens exceed the judge's context", "request refused")
                return Judgment(comparison, (refused, refused), refused)
            margin = letter_margin(judge, prompt)
            leads.append(margin if first else -margin)
        one, other = map(self._preference, leads)
        return Judgment(comparison, (one, other), self._preference(sum(leads) / 2))

    def _preference(self, lead: float) -> Preference:
        if abs(lead) <= self.margin:
            return Preference.TIE
        return Preference.WIN if lead > 0 else Preference.LOSS

    @contextmanager
    def _judging(self) -> Iterator[Policy]:
        """Provide the judge's model; the policy must not be used inside where it is the judge."""
        if self._adapted is not None:
            from peft.helpers import rescale_adapter_scale

            judge, base = self._adapted, rescale_adapter_scale(self._adapted.model, 0.0)
        else:
            judge, base = self._loaded or self._load(), nullcontext()
        with base:
            yield judge

    def _load(self) -> Policy:
        if self.model is None:
            raise BadInput("judge.model is null, so the policy's base judges, and only a run has one; name a model")
        self._loaded = load_policy(self.model, dtype=getattr(torch, self.dtype))
        self._loaded.model.eval().to(torch.device(self.device or "cpu"))
        return self._loaded


@torch.no_grad()
def letter_margin(judge: Policy, prompt: Sequence[int]) -> float:
    """Return log p(A) - log p(B), in nats, of the first letter of the reply to a prompt."""
    a, b = (judge.tokenizer.encode(letter, add_special_tokens=False) for letter in "AB")
    if a[:-1] != b[:-1] or a[-1] == b[-1]:
        raise BadInput("judge: its tokenizer does not tell the letters A and B apart in one token; name another model")
    # One prompt at a time: on a CPU a batch of long prompts is no faster, and there is no padding to get wrong.
    ids = torch.tensor([[*prompt, *a[:-1]]], device=judge.model.device)
    logits = judge.model(input_ids=ids, logits_to_keep=1).logits[0, -1].float()
    return float(logits[a[-1]] - logits[b[-1]])
