"""The code reward: does the program pass its unit tests?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, OutcomeCache, Reward, score_jobs
from omnithink_pl.rewards.checker import Case, Checker, CheckerPool
from omnithink_pl.rewards.format import answer_segment
from omnithink_pl.rewards.markdown import compile_error
from omnithink_pl.rewards.program import extract_program, join_sources
from omnithink_pl.sandbox.base import MeasuredSandbox, RunOutcome, Sandbox, Verdict, same_output
from omnithink_pl.types import Example, Group, Outcome, UnitTests

Job = tuple[str, UnitTests]


@final
class CodeReward(Reward):
    """1 where every test passes, else 0 (the paper, section 4.4).

    Undefined without an answer segment or usable tests, and where a test does what cannot be done across two boxes;
    failed where the sandbox could not run the program. Each distinct (program, tests) is run once and its verdict
    cached: a program is assumed to be deterministic.

    Args:
        sandbox: Runs the programs.
        checker: Says whether an output that is not the expected one is right too: a function of ``(input, output)``
            or ``(input, output, expected)``. It is trusted, and runs outside the sandbox. Functional tests, which
            can assert what they like, do not use it.
        checker_timeout: Seconds that the checker may take for the outputs of one program.
    """

    name = "code"
    awaits = "group"

    def __init__(self, sandbox: Sandbox, checker: Checker | None = None, checker_timeout: float = 10.0) -> None:
        if checker_timeout <= 0:
            raise BadInput(f"data.tasks.code.checker_timeout: {checker_timeout} seconds is too short; use more than 0")
        self.sandbox = sandbox
        self._checker = CheckerPool(checker, checker_timeout) if checker is not None else None
        self._cache: OutcomeCache[Job] = OutcomeCache()

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order; all programs of the batch run in one call."""
        return score_jobs(groups, _job, partial(self._cache.look_up, compute=self._run))

    def metrics(self) -> dict[str, float]:
        """Return the sandbox's throughput as ``sandbox/...``; empty where every verdict was cached."""
        measured = self.sandbox.metrics() if isinstance(self.sandbox, MeasuredSandbox) else {}
        return {f"sandbox/{name}": value for name, value in measured.items()}

    def close(self) -> None:
        """End the processes of the sandbox and the checker."""
        self.sandbox.close()
        if self._checker is not None:
            self._checker.close()

    def _run(self, jobs: list[Job]) -> list[Outcome]:
        if self._checker is None:
            return [_outcome(verdict) for verdict in self.sandbox.run_all(jobs)]
        compared = [(program, replace(tests, compare=bool(tests.functional.strip()))) for program, tests in jobs]
        verdicts = self.sandbox.run_all(compared)
        unclear = [_unexpected(verdict, tests) for verdict, (_, tests) in zip(verdicts, compared, strict=True)]
        checked = iter(self._checker.outcomes([cases for cases in unclear if cases]))
        return [next(checked) if cases else _outcome(one) for one, cases in zip(verdicts, unclear, strict=True)]


def reference_defect(tests: UnitTests) -> str:
    """Return why no program can be judged by unit tests, and the cure; empty if one can."""
    if not tests.functional.strip():
        if not tests.inputs:
            return "it has no tests, so that any program would pass; give it some or drop the row"
        if len(tests.inputs) != len(tests.outputs):
            return f"it has {len(tests.inputs)} inputs and {len(tests.outputs)} outputs; give each its own"
    for what, source in (("functional tests do", tests.functional), ("prelude does", tests.prelude)):
        if why := compile_error(source):
            return f"its {what} not compile as Python ({why}); correct the row or drop it"
    return ""


def _job(example: Example, text: str) -> Job | Outcome:
    tests = example.reference
    if not isinstance(tests, UnitTests):
        raise TypeError(f"{example.uid}: a code problem's reference is UnitTests, not {type(tests).__name__}")
    if defect := reference_defect(tests):
        return Outcome.undefined(f"{BAD_REFERENCE}: {defect}")
    if (segment := answer_segment(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    program = extract_program(segment, tests)
    return join_sources([tests.prelude, program]) if tests.prelude else program, tests


def _outcome(verdict: Verdict) -> Outcome:
    if verdict.outcome is RunOutcome.REFUSED:
        return Outcome.failed(f"sandbox refused: {verdict.stderr or 'no reason given'}")
    if verdict.outcome is RunOutcome.UNDEFINED:
        return Outcome.undefined(f"test without a verdict: {verdict.stderr}")
    return Outcome.of(verdict.passed)


def _unexpected(verdict: Verdict, tests: UnitTests) -> list[Case]:
    """Return the tests of a program that ended well whose output is not the expected one."""
    if tests.compare or not verdict.passed:
        return []
    if len(verdict.outputs) != len(tests.inputs):
        raise TypeError("a checker needs a sandbox that returns outputs where UnitTests.compare is false")
    cases = zip(tests.inputs, verdict.outputs, tests.outputs, strict=True)
    return [case for case in cases if not (case[2].strip() and same_output(case[1], case[2]))]
