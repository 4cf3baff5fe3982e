"""Groups of completions made by hand."""

from __future__ import annotations

from omnithink_pl.rewards import Reward
from omnithink_pl.types import Completion, Example, Group, Outcome, Reference


def group(reference: Reference, *texts: str, question: str = "?") -> Group:
    """One example with the given completions."""
    example = Example(task="task", uid="row-7", question=question, reference=reference)
    return Group(example, (), tuple(Completion((), (), text, "stop") for text in texts))


def answered(answer: str) -> str:
    """A well-formed completion with this answer."""
    return f"<think>because</think><answer>{answer}</answer>"


def outcome(reward: Reward, reference: Reference, text: str) -> Outcome:
    """The outcome of a single completion."""
    return reward.score([group(reference, text)])[0][0]
