"""How a sandbox chooses its seal, and that it runs nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, hardened, packages, tiers
from omnithink_pl.sandbox.box import BoxLost
from omnithink_pl.sandbox.tiers import Plan, Tier
from tests.sandbox.helpers import ADD, PRINT_SUM, SOLUTION, SUM


def _dies(*_: object) -> object:
    raise BoxLost("no luck")


def test_a_sandbox_whose_boxes_keep_dying_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = HardenedSandbox(workers=1)
    assert sandbox.tier
    monkeypatch.setattr(tiers, "Box", _dies)
    verdict = sandbox.run(PRINT_SUM, ADD)
    sandbox.close()
    assert verdict.outcome is RunOutcome.REFUSED
    assert "no luck" in verdict.stderr


UNSEALED = {
    r"no bubblewrap.*no landlock.*apt-get install": (hardened, "missing", lambda plan: f"no {plan.tier.value}"),
    "reads files of the host": (hardened, "plans", lambda tier: [Plan(Tier.UNSAFE)]),
    "it does not start": (tiers, "Box", _dies),
}


@pytest.mark.parametrize("message", UNSEALED)
def test_where_nothing_seals_no_program_is_run(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr(*UNSEALED[message])
    with pytest.raises(BadInput, match=message):
        HardenedSandbox(workers=1).run(PRINT_SUM, ADD)


def test_allow_unsafe_is_loud_and_runs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(hardened, "missing", lambda plan: "none today")
    sandbox = HardenedSandbox(workers=1, allow_unsafe=True)
    passed = [sandbox.run(PRINT_SUM, ADD).passed, sandbox.run(SOLUTION, SUM).passed]
    sandbox.close()
    assert passed == [True, True]
    assert [record.levelno for record in caplog.records if "UNSAFE" in record.message] == [logging.CRITICAL]


def test_the_second_choice_is_taken_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardened, "missing", lambda plan: "none" if plan.tier is Tier.BUBBLEWRAP else "")
    sandbox = HardenedSandbox(workers=1)
    assert [sandbox.tier, sandbox.tier] == [Tier.LANDLOCK] * 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_what_is_installed_is_looked_at_once_for_all_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    look = packages.metadata.packages_distributions

    def counted() -> Mapping[str, list[str]]:
        looks.append("")
        return look()

    monkeypatch.setattr(packages.metadata, "packages_distributions", counted)
    packages.package_files.cache_clear()
    sandbox = HardenedSandbox(workers=3)
    try:
        assert all(verdict.passed for verdict in sandbox.run_all([(PRINT_SUM, ADD)] * 6))
    finally:
        sandbox.close()
    assert len(looks) == 1
