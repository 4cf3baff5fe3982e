"""Core data types: ``Example`` -> ``Group`` of ``Completion`` -> one ``Score`` per completion.

This file imports nothing of the package, so every module may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Literal, TypeAlias, TypedDict

FinishReason = Literal["stop", "length"]

Range: TypeAlias = tuple[float, float]
"""The least and the greatest value of a reward."""

UNIT_RANGE: Range = (0.0, 1.0)

# What an answer consists of, in order.
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class Message(TypedDict):
    """One chat message, in the shape that chat templates expect."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class UnitTests:
    """The tests of a code problem, in one of code-r1's two kinds.

    Args:
        inputs: What each test writes to the program's standard input.
        outputs: What the program must print for each input, compared after ``.strip()``.
        functional: Python source of asserts that ends by calling ``check(<entry_point>)``.
        entry_point: The name that the functional tests call.
        prelude: Source that stands before the program, such as the imports of a prompt that is code.
        packages: What program and tests import; without those of them that are not Python's own there is no verdict.
        compare: Whether the sandbox compares outputs with ``outputs``; otherwise it returns them, to be checked.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    functional: str = ""
    entry_point: str = ""
    prelude: str = ""
    packages: tuple[str, ...] = ()
    compare: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """The candidate answers of a question, and which of them are right.

    Args:
        texts: Every option in full, right and wrong; in the order of the prompt once there is one, until then
            in the dataset's.
        answers: The full text of each accepted answer.
    """

    texts: tuple[str, ...]
    answers: tuple[str, ...]


Reference = str | UnitTests | Options


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with what is needed to score an answer to it.

    Args:
        task: Name of the task, such as ``math``.
        uid: Stable identity of the row, equal in every process and run.
        question: The row's own text, before any template.
        reference: Gold answer or reference text (``str``), ``UnitTests`` or ``Options``.
        messages: The chat prompt; filled in by the task's template.
        category: What a benchmark reports apart, such as a discipline; empty where it does not.
    """

    task: str
    uid: str
    question: str
    reference: Reference
    messages: tuple[Message, ...] = ()
    category: str = ""

    @property
    def key(self) -> str:
        """Identity among the examples of all tasks."""
        return f"{self.task}/{self.uid}"


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer.

    Args:
        token_ids: The sampled tokens; the last is EOS when ``finish_reason`` is ``stop``.
        logprobs: Natural log-probability of each token under the distribution sampled from.
        text: The answer: what the chat template opened, and the decoded tokens without special ones but the tags.
        finish_reason: ``stop`` at EOS, ``length`` when cut off.
        earlier: Number of leading tokens that an earlier policy sampled (partial rollouts).
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """One example with its G completions, sampled by the same policy but for their ``earlier`` tokens."""

    example: Example
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]


class State(StrEnum):
    """State of a reward component."""

    VALUE = "value"
    UNDEFINED = "undefined"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A reward component's verdict on one completion, in one of three states.

    Args:
        state: ``VALUE``; ``UNDEFINED`` where the task cannot say (no answer segment, unusable
            reference); ``FAILED`` where we could not (judge unreachable, sandbox crashed).
        value: The reward, in the range that it declares; ``None`` unless ``state`` is ``VALUE``.
        reason: Why it is undefined or failed: a short phrase, counted by the part before a colon.
    """

    state: State
    value: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.state is State.VALUE) != (self.value is not None):
            raise ValueError(f"an outcome has a value exactly when its state is VALUE: {self}")
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"a reward is a finite number, not {self.value}")

    @property
    def shown(self) -> float | str:
        """The value where there is one, else state and reason: ``undefined: no answer segment``."""
        if self.value is not None:
            return self.value
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)

    @classmethod
    def of(cls, value: float) -> Outcome:
        """Return a value, in [0, 1] unless the reward declares another range."""
        return cls(State.VALUE, float(value))

    @classmethod
    def undefined(cls, reason: str) -> Outcome:
        """Return an outcome that the task cannot determine."""
        return cls(State.UNDEFINED, None, reason)

    @classmethod
    def failed(cls, reason: str) -> Outcome:
        """Return an outcome that we failed to determine."""
        return cls(State.FAILED, None, reason)


@dataclass(frozen=True, slots=True)
class Component:
    """One weighted part of a score."""

    name: str
    weight: float
    outcome: Outcome
    range: Range = UNIT_RANGE  # of the values that the reward may have


@dataclass(frozen=True, slots=True)
class Score:
    """One completion's reward: every component, the first of which is the primary one."""

    components: tuple[Component, ...]

    @property
    def state(self) -> State:
        """``FAILED`` if any component failed, ``UNDEFINED`` if none has a value."""
        states = [component.outcome.state for component in self.components]
        if State.FAILED in states:
            return State.FAILED
        return State.VALUE if State.VALUE in states else State.UNDEFINED

    @property
    def total(self) -> float | None:
        """Weighted sum over the components that have a value; ``None`` unless ``state`` is VALUE."""
        if self.state is not State.VALUE:
            return None
        return sum(c.weight * c.outcome.value for c in self.components if c.outcome.value is not None)

    @property
    def primary(self) -> Outcome:
        """The task's own reward, without format and tags."""
        return self.components[0].outcome

    @property
    def primary_value(self) -> float:
        """Value of the task's own reward; the lowest of its range where it has none, as without an answer."""
        first = self.components[0]
        return first.range[0] if first.outcome.value is None else first.outcome.value
