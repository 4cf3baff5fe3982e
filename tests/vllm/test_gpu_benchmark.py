"""Stage B of ``benchmarks.gpu`` in miniature: the engine, and a run that is killed and resumed."""

from __future__ import annotations

import pytest

from benchmarks.gpu.case import Case
from benchmarks.gpu.engine import decoding, parity, sleep, sync
from benchmarks.gpu.fit import five_steps

pytestmark = pytest.mark.slow

CASE = Case.of("mini", "cpu")


def test_what_is_measured_of_the_engine() -> None:
    assert next(parity(CASE, "float32"))["largest"] < 1e-3
    _, row = decoding(CASE, graphs=False)
    assert row["ms_per_token"] > 0
    assert len(list(sync(CASE))) == 3
    assert next(sleep(CASE, level=2))["equal"]
    assert next(sleep(CASE, level=1))["wake_seconds"] > 0


def test_a_fit_of_five_steps_is_killed_and_resumed() -> None:
    killed, resumed, *steps = five_steps(CASE)
    assert 3 <= killed["killed_after_steps"] <= 5
    assert (resumed["resumed_exit_code"], resumed["steps"]) == (0, 5)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert all(step["train/logprob_diff_mean"] < 1e-4 for step in steps)
