"""Every hostile and every honest program, in both tiers, as root and as an ordinary user where root runs the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sandbox.programs import HONEST, HOSTILE
from tests.sandbox.users import TIERS, run_as


def test_there_are_enough_programs() -> None:
    assert len({case.name for case in HOSTILE}) == len(HOSTILE) >= 60
    assert len({case.name for case in HONEST}) == len(HONEST) >= 30


@pytest.mark.slow
@pytest.mark.parametrize(("user", "tier"), TIERS)
def test_law_10_no_hostile_program_gets_through_and_no_honest_one_is_rejected(user: str, tier: str, copy: Path) -> None:
    done = run_as(user, "-m", "tests.sandbox.suite", tier, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"tier": tier, "hostile": {}, "honest": {}}
