"""The code reward: does the program pass its unit tests?"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import final

from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, OutcomeCache, Reward, score_jobs
from omnithink_pl.rewards.format import answer_segment
from omnithink_pl.sandbox.base import MeasuredSandbox, RunOutcome, Sandbox, Verdict
from omnithink_pl.types import Example, Group, Outcome, UnitTests

_FENCE = re.compile(r"^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


@final
class CodeReward(Reward):
    """1 where every test passes, else 0 (the paper, section 4.4).

    Undefined without an answer segment or without tests, and where a test does what cannot be done across two boxes;
    failed where the sandbox could not run the program. Each distinct (program, tests) is run once and its verdict
    cached: a program is assumed to be deterministic.

    Args:
        sandbox: Runs the programs.
    """

    name = "code"
    awaits = "group"

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._cache: OutcomeCache[tuple[str, UnitTests]] = OutcomeCache()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order; all programs of the batch run in one call."""
        return score_jobs(groups, _job, partial(self._cache.look_up, compute=self._run))

    def metrics(self) -> dict[str, float]:
        """Return the sandbox's throughput as ``sandbox/...``; empty where every verdict was cached."""
        measured = self.sandbox.metrics() if isinstance(self.sandbox, MeasuredSandbox) else {}
        return {f"sandbox/{name}": value for name, value in measured.items()}

    def close(self) -> None:
        """End the sandbox's processes."""
        self.sandbox.close()

    def _run(self, jobs: list[tuple[str, UnitTests]]) -> list[Outcome]:
        return [_outcome(verdict) for verdict in self.sandbox.run_all(jobs)]


def _outcome(verdict: Verdict) -> Outcome:
    match verdict.outcome:
        case RunOutcome.REFUSED:
            return Outcome.failed(f"sandbox refused: {verdict.stderr or 'no reason given'}")
        case RunOutcome.UNDEFINED:
            return Outcome.undefined(f"test without a verdict: {verdict.stderr}")
    return Outcome.of(verdict.passed)


def extract_program(segment: str) -> str:
    """Return the last Markdown code block of an answer segment, or all of it, without common indentation."""
    blocks = _FENCE.findall(segment)
    return textwrap.dedent(blocks[-1] if blocks else segment).strip("\n").rstrip()


def _job(example: Example, text: str) -> tuple[str, UnitTests] | Outcome:
    tests = example.reference
    if not isinstance(tests, UnitTests):
        raise TypeError(f"{example.uid}: a code problem's reference is UnitTests, not {type(tests).__name__}")
    if not tests.functional.strip() and (not tests.inputs or len(tests.inputs) != len(tests.outputs)):
        return Outcome.undefined(BAD_REFERENCE)
    if (segment := answer_segment(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    return tests.prelude + extract_program(segment), tests
