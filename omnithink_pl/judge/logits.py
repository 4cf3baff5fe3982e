"""A language model in this process as judge, read from the logits of its first token: for small models, on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference
from omnithink_pl.judge.pairwise import JudgeStatistics, Judgment, OrderedPair, PairwisePrompt
from omnithink_pl.model.architecture import accepted
from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.randomness import eval_mode
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
        distinct = list(dict.fromkeys(comparisons))
        with self._judging() as judge:
            margins = self._margins(judge, [OrderedPair(one, first) for one in distinct for first in (True, False)])
            found = {one: self._judgment(one, margins, judge.context) for one in distinct}
        judged = [found[one] for one in comparisons]
        self.statistics.add(judged)
        return [judgment.verdict for judgment in judged]

    def metrics(self) -> dict[str, float]:
        """Return the rates of verdicts since the last call; flips are pairs in which a place was preferred."""
        return self.statistics.metrics()

    def close(self) -> None:
        """Release loaded weights; they are loaded again when asked again."""
        self._loaded = None

    def _margins(self, judge: Policy, pairs: Sequence[OrderedPair]) -> dict[OrderedPair, float]:
        """Return log p(A) - log p(B) of each pair whose prompt the judge can read."""
        prompts = {pair: judge.encode(pair.messages(self.prompt)) for pair in pairs}
        self.statistics.count(pairs=len(pairs), prompt_tokens=sum(map(len, prompts.values())))
        read = {pair: prompt for pair, prompt in prompts.items() if len(prompt) < judge.context}
        return dict(zip(read, letter_margins(judge, list(read.values())), strict=True))

    def _judgment(self, comparison: Comparison, margins: Mapping[OrderedPair, float], context: int) -> Judgment:
        first, second = (margins.get(OrderedPair(comparison, first)) for first in (True, False))
        if first is None or second is None:
            refused = JudgeUnavailable(f"a prompt exceeds the judge's context of {context} tokens", "request refused")
            return Judgment(comparison, (refused, refused), refused)
        lead = (first - second) / 2
        return Judgment(comparison, (self._preference(first), self._preference(-second)), self._preference(lead))

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
def letter_margins(judge: Policy, prompts: Sequence[Sequence[int]]) -> list[float]:
    """Return log p(A) - log p(B), in nats, of the first letter of the reply to each prompt.

    Prompts are read in the order of their tokens, so that many begin as the one before: those of a group share the
    request and, in one of both orders, the reference.
    """
    a, b = (judge.tokenizer.encode(letter, add_special_tokens=False) for letter in "AB")
    if a[:-1] != b[:-1] or a[-1] == b[-1]:
        raise BadInput("judge: its tokenizer does not tell the letters A and B apart in one token; name another model")
    reader, margins = PromptReader(judge.model), [0.0] * len(prompts)
    with eval_mode(judge.model):
        for index in sorted(range(len(prompts)), key=lambda index: list(prompts[index])):
            logits = reader.next_logits([*prompts[index], *a[:-1]])
            margins[index] = float(logits[a[-1]] - logits[b[-1]])
    return margins


@final
class PromptReader:
    """Reads prompts one by one, and of each only what differs from the one before.

    One at a time, because on a CPU a batch of long prompts is no faster, and there is no padding to get wrong. Layers
    with a window, and recurrent ones, forget what would be shared: their models read each prompt whole.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._cache: Any = None
        self._tokens: list[int] = []  # of which the cache holds keys and values

    def next_logits(self, tokens: list[int]) -> Tensor:
        """Return the logits of the token that follows, in float32, of shape ``[vocabulary]``."""
        shared = self._keep(tokens)
        ids = torch.tensor([tokens[shared:]], device=self.model.device)
        arguments = accepted(self.model, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        found = self.model(input_ids=ids, **arguments)
        self._cache, self._tokens = getattr(found, "past_key_values", None), tokens
        logits: Tensor = found.logits[0, -1].float()
        return logits

    def _keep(self, tokens: list[int]) -> int:
        """Forget what does not begin these tokens; return the number of those that are left."""
        layers = getattr(self._cache, "layers", [])
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            self._cache = None
            return 0
        pairs = zip(self._tokens, tokens[:-1], strict=False)  # the last one is read for its logits
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if shared < len(self._tokens):
            self._cache.crop(shared - len(self._tokens))
        return shared
