from __future__ import annotations

from pathlib import Path
from shutil import disk_usage

import pytest

from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.tracking import TrackingError, TrackingLogger
from omnithink_pl.tracking.artifacts import rollout_table
from omnithink_pl.types import Completion, Component, Example, Group, Outcome, Score
from tests.faults.world import small_disk


def scored(task: str, outcomes: list[Outcome], advantages: list[float | None]) -> ScoredGroup:
    messages = {"role": "system", "content": "s"}, {"role": "user", "content": "q"}
    example = Example(task, f"{task}-1", "q", "r", messages)
    completions = tuple(Completion((1, 2), (-0.1, -0.2), f"answer {i}", "stop") for i in range(len(outcomes)))
    scores = tuple(
        Score((Component(task, 1.0, outcome), Component("format", 0.1, Outcome.of(1.0)))) for outcome in outcomes
    )
    return ScoredGroup(Group(example, (5,), completions), scores, tuple(advantages))


def test_a_table_has_a_row_per_completion_and_every_component_with_its_state() -> None:
    math = scored("math", [Outcome.of(1.0), Outcome.undefined("no answer segment")], [1.0, -1.0])
    code = scored("code", [Outcome.failed("sandbox died")], [None])
    table = rollout_table([math, code], step=7)
    assert list(table)[:2] == ["completion", "reward"]
    assert table["step"] == [7, 7, 7]
    assert table["prompt"] == ["s\nq"] * 3
    assert table["completion"] == ["answer 0", "answer 1", "answer 0"]
    assert table["reward"] == [1.0, "undefined: no answer segment", "failed: sandbox died"]
    assert table["reward/format"] == [1.0, 1.0, 1.0]
    assert table["total"] == [1.1, 0.1, "failed"]
    assert table["advantage"] == [1.0, -1.0, None]
    assert rollout_table([], step=0) == {}


def test_a_full_disk_of_the_artifacts_is_named_and_what_it_refused_waits(tmp_path: Path, tracking_uri: str) -> None:
    place = tmp_path / "artifacts"
    place.mkdir()
    with small_disk(place) as mounted:
        if not mounted:
            pytest.skip("mounting a small disk takes root")
        logger = TrackingLogger(tracking_uri=tracking_uri, artifact_location=place.as_uri())
        ballast = place / "ballast"
        ballast.write_bytes(bytes(disk_usage(place).free))
        with pytest.raises(TrackingError, match=r"artifact_location: cannot store .*eval/a\.txt at .*free space there"):
            logger.artifacts.text("a text", "eval/a.txt")
        ballast.unlink()
        logger.outbox.flush()
        (stored,) = place.rglob("a.txt")
        assert stored.read_text() == "a text"
