"""A language model as judge: its prompt, the position swap, its verdicts and their statistics."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import statistics
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, final, get_args

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference
from omnithink_pl.types import Message

Letter = Literal["A", "B", "C"]
Result = Preference | JudgeUnavailable

_DIVIDER = "\n=====\n"
_FIELDS = {"fence", "question", "answer_a", "answer_b"}
_VERDICT = re.compile(rf"\[\[({'|'.join(get_args(Letter))})\]\]")
_LIKE_A_VERDICT = re.compile(r"\[\s*\[(\s*[A-Za-z]\s*)\]\s*\]")


class PairwiseJudge(ABC):
    """Asks a language model about every pair in both orders; a disagreement is a tie.

    The position swap follows MT-Bench (Zheng et al. 2023); the tie is worth 0.5 in the paper.

    Args:
        prompt: Version of a prompt of this package, or the path of another.
        conversation_prompt: Likewise, for conversations of more than one turn.
        prices: Of the tokens, to report what the judge costs.
    """

    def __init__(self, prompt: str, conversation_prompt: str, prices: Prices | None = None) -> None:
        self.prompt = PairwisePrompt.load(prompt)
        self.conversation_prompt = PairwisePrompt.load(conversation_prompt)
        self.statistics = JudgeStatistics(prices)

    @abstractmethod
    def ask(self, pairs: list[OrderedPair]) -> list[Letter | JudgeUnavailable]:
        """Return one verdict, or why there is none, per distinct pair, in order."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """Return one preference, or why there is none, per comparison, in order."""
        pairs = [OrderedPair(comparison, first) for comparison in dict.fromkeys(comparisons) for first in (True, False)]
        letters = zip(pairs, self.ask(pairs) if pairs else [], strict=True)
        said = {pair: v if isinstance(v, JudgeUnavailable) else pair.preference(v) for pair, v in letters}
        judged = [agreement(c, said[OrderedPair(c, True)], said[OrderedPair(c, False)]) for c in comparisons]
        self.statistics.add(judged)
        return [judgment.verdict for judgment in judged]

    def metrics(self) -> dict[str, float]:
        """Return rates, tokens and, where they are measured, latency and cost since the last call."""
        return self.statistics.metrics()

    def prompt_for(self, pair: OrderedPair) -> PairwisePrompt:
        """Return the prompt for a single answer or for a conversation."""
        return self.prompt if pair.comparison.turns == 1 else self.conversation_prompt


@dataclass(frozen=True)
class OrderedPair:
    """A comparison in one order of presentation."""

    comparison: Comparison
    candidate_first: bool  # whether the candidate is answer A

    def messages(self, prompt: PairwisePrompt) -> list[Message]:
        """Return the chat in which the judge is asked."""
        c = self.comparison
        answers = (c.candidate, c.reference) if self.candidate_first else (c.reference, c.candidate)
        return prompt.messages(c.prompt, *answers, marker=marker(c.prompt, c.reference, c.candidate))

    def key(self, judge: str, prompt: PairwisePrompt) -> str:
        """Return a hash of judge, prompt version, question, both answers and their order."""
        c = self.comparison
        parts = [judge, prompt.identity, c.prompt, c.candidate, c.reference, self.candidate_first]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def preference(self, letter: Letter) -> Preference:
        """Return what a verdict means for the candidate."""
        if letter == "C":
            return Preference.TIE
        return Preference.WIN if (letter == "A") == self.candidate_first else Preference.LOSS


@dataclass(frozen=True)
class Judgment:
    """A comparison with its results: candidate first, reference first, and of both."""

    comparison: Comparison
    preferences: tuple[Result, Result]
    verdict: Result


def agreement(comparison: Comparison, first: Result, second: Result) -> Judgment:
    """Return the preference of both orders as the verdict, a tie where they disagree."""
    failed = next((one for one in (first, second) if isinstance(one, JudgeUnavailable)), None)
    return Judgment(comparison, (first, second), failed or (first if first is second else Preference.TIE))


@dataclass(frozen=True)
class PairwisePrompt:
    """A prompt in two parts, system and user, from a file whose name is its version.

    A changed wording is another file: verdicts under one wording are not comparable with those under another.
    The parts are templates with the fields ``_FIELDS``, divided by a line of ``=====``.
    """

    version: str  # name of the file without its suffix
    text: str

    @classmethod
    def load(cls, name: str) -> PairwisePrompt:
        """Read a prompt of this package by its version, or any other by its path; ``BadInput`` if it cannot be used."""
        packaged = files("omnithink_pl.judge") / "prompts" / f"{name}.txt"
        source = Path(str(packaged)) if packaged.is_file() else Path(name).expanduser()
        if not source.is_file():
            raise BadInput(f"judge.prompt: no prompt {name!r} in the package and no such file; use pairwise_v1")
        text = source.read_text(encoding="utf-8")
        missing = {field for field in _FIELDS if f"${{{field}}}" not in text}
        if missing or text.count(_DIVIDER) != 1:
            raise BadInput(
                f"judge.prompt: {source} needs two parts divided by a line of ===== and the fields "
                f"{', '.join(f'${{{field}}}' for field in sorted(_FIELDS))}"
            )
        return cls(source.stem, text)

    @property
    def identity(self) -> str:
        """Version and hash, which tell apart a file that was edited in place."""
        return f"{self.version}:{hashlib.sha256(self.text.encode()).hexdigest()[:16]}"

    def messages(self, question: str, answer_a: str, answer_b: str, marker: str) -> list[Message]:
        """Return the chat in which the judge is asked.

        Against prompt injection, the texts stand between lines that begin with ``marker``, and whatever looks like a
        verdict in them is rewritten, so that the judge cannot quote it as its own.
        """
        texts = {"question": question, "answer_a": answer_a, "answer_b": answer_b}
        fields = {name: _LIKE_A_VERDICT.sub(r"(\1)", text) for name, text in texts.items()}
        system, _, user = self.text.partition(_DIVIDER)
        # One substitution each, so that a ${field} inside a text stays as it is.
        return [
            {"role": "system", "content": Template(system).substitute(fields, fence=marker).strip()},
            {"role": "user", "content": Template(user).substitute(fields, fence=marker).strip()},
        ]


def marker(question: str, reference: str, candidate: str) -> str:
    """Return what sets the texts of a comparison apart, and is in none of them.

    Made from a hash of question and reference, it cannot be guessed by a policy, which is shown no reference; and
    prompts for all candidates of a group begin alike, so that a judge need not read that beginning anew.
    """
    texts = (question, reference, candidate)
    hashes = (hashlib.sha256("\0".join((str(n), question, reference)).encode()) for n in itertools.count())
    found = (f"#{one.hexdigest()[:16]}" for one in hashes)
    return next(one for one in found if not any(one in text for text in texts))


def parse_verdict(reply: str) -> Letter | None:
    """Return the verdict in the last line of a reply; ``None`` unless that line has exactly one.

    Verdicts in other lines do not count: a judge may weigh or quote an answer before it decides.
    """
    lines = reply.strip().splitlines()
    found = _VERDICT.findall(lines[-1]) if lines else []
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Prices:
    """Prices of a hosted judge.

    Args:
        prompt: Currency units per million tokens sent.
        completion: Currency units per million tokens received.
    """

    prompt: float
    completion: float


@final
class JudgeStatistics:
    """Accumulates statistics until they are read, then starts again. Thread-safe."""

    def __init__(self, prices: Prices | None = None) -> None:
        self.prices = prices
        self._lock = threading.Lock()
        self._judged: list[Judgment] = []
        self._counts: defaultdict[str, float] = defaultdict(float)

    def add(self, judged: Sequence[Judgment]) -> None:
        """Add results of comparisons."""
        with self._lock:
            self._judged += judged

    def count(self, **more: float) -> None:
        """Add to counters.

        They are ``pairs`` asked about (two for each comparison) and those ``cached``; ``replies``, those
        ``unparseable``, and the ``seconds`` they took; ``retries``; ``prompt_tokens`` and ``completion_tokens``.
        """
        with self._lock:
            for name, value in more.items():
                self._counts[name] += value

    def metrics(self) -> dict[str, float]:
        """Return everything since the last call, by name; empty if nothing was compared."""
        with self._lock:
            judged, counts = self._judged, self._counts
            self._judged, self._counts = [], defaultdict(float)
        if not judged:
            return {}
        metrics = verdict_metrics(judged)
        metrics |= {name: counts[name] for name in ("retries", "prompt_tokens", "completion_tokens")}
        metrics["cached"] = counts["cached"] / max(counts["pairs"], 1)
        if counts["replies"]:
            metrics["unparseable"] = counts["unparseable"] / counts["replies"]
            metrics["seconds_per_reply"] = counts["seconds"] / counts["replies"]
        if self.prices is not None:
            cost = counts["prompt_tokens"] * self.prices.prompt + counts["completion_tokens"] * self.prices.completion
            metrics["cost"] = cost / 1e6
        return metrics


def verdict_metrics(judged: Sequence[Judgment]) -> dict[str, float]:
    """Return the shares of failures, wins, ties and flips among comparisons, and the length bias.

    ``length_slope`` is the slope of the least-squares line of the reward (1, 0.5, 0) over the difference in length,
    candidate minus reference, per 100 characters.
    """
    clear = [(one, verdict) for one in judged if isinstance(verdict := one.verdict, Preference)]
    metrics = {"failed": (len(judged) - len(clear)) / len(judged)}
    if not clear:
        return metrics
    rewards = [verdict.value for _, verdict in clear]
    longer = [(len(one.comparison.candidate) - len(one.comparison.reference)) / 100 for one, _ in clear]
    metrics |= {
        "win_rate": statistics.fmean(rewards),
        "tie_rate": rewards.count(Preference.TIE.value) / len(rewards),
        "flip_rate": sum(one.preferences[0] is not one.preferences[1] for one, _ in clear) / len(clear),
    }
    if len(set(longer)) > 1:
        metrics["length_slope"] = statistics.linear_regression(longer, rewards).slope
    return metrics
