"""Short runs, disturbed by seed, come to the undisturbed result; more by ``python -m tests.faults --seeds 30``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plans import SITES, Fault, Plan, Site
from tests.faults.suite import Suite

COUNTS = dict.fromkeys(Site, 7)


def test_a_seed_is_a_plan_and_ten_in_turn_are_every_fault() -> None:
    plans = [Plan.draw(seed, COUNTS) for seed in range(30)]
    assert plans == [Plan.draw(seed, COUNTS) for seed in range(30)]
    assert {plan.fault for plan in plans[:10]} == set(Fault)
    assert all(plan.site in SITES[plan.fault] and plan.number < COUNTS[plan.site] for plan in plans)
    assert len({(plan.fault, plan.site, plan.number, plan.extent) for plan in plans}) > 20


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["main.py"])
        yield Suite(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_law_13_a_disturbed_run_continues_to_the_result_of_the_undisturbed_one(
    seed: int, suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    said = suite.disturb(seed)
    with capsys.disabled():
        print(f"\n{said}")


@pytest.mark.slow
def test_a_loss_is_seen(suite: Suite, tmp_path: Path) -> None:
    """The comparison itself: a point, a table and a bit that are missing or other are each found."""
    from copy import deepcopy

    from tests.faults.suite import assert_equal

    assert_equal(suite.expected, deepcopy(suite.expected))
    fewer, other, changed = (deepcopy(suite.expected) for _ in range(3))
    del fewer.metrics["train/loss"][-1]
    other.files.remove("score_matrix.json")
    next(iter(changed.checkpoint["state_dict"].values())).view(-1)[0] += 1e-6
    for broken in (fewer, other, changed):
        with pytest.raises(AssertionError):
            assert_equal(suite.expected, broken)
