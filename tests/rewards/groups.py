"""Groups of completions made by hand, a sandbox that runs nothing, and a judge that reads nothing."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.judge import Comparison, JudgeUnavailable, Preference
from omnithink_pl.rewards import Reward
from omnithink_pl.sandbox import RunOutcome, Verdict
from omnithink_pl.types import Completion, Example, Group, Outcome, Reference, UnitTests


class SayingSandbox:
    """The text of a program is the name of its outcome; any other program passes."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.closed = 0

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        programs = [program for program, _ in jobs]
        self.ran.append(programs)
        return [Verdict(RunOutcome(p) if p in list(RunOutcome) else RunOutcome.PASSED) for p in programs]

    def close(self) -> None:
        self.closed += 1


class LongerWins:
    """Prefers the longer text; a tie where both are as long."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        leads = [len(c.candidate) - len(c.reference) for c in comparisons]
        return [Preference.TIE if lead == 0 else Preference.WIN if lead > 0 else Preference.LOSS for lead in leads]

    def close(self) -> None:
        """Nothing to release."""


def group(reference: Reference, *texts: str, question: str = "?", task: str = "task") -> Group:
    """One example with the given completions."""
    example = Example(task=task, uid="row-7", question=question, reference=reference)
    return Group(example, (), tuple(Completion((), (), text, "stop") for text in texts))


def answered(answer: str) -> str:
    """A well-formed completion with this answer."""
    return f"<think>because</think><answer>{answer}</answer>"


def outcome(reward: Reward, reference: Reference, text: str) -> Outcome:
    """The outcome of a single completion."""
    return reward.score([group(reference, text)])[0][0]
