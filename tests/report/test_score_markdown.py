"""The description of a run."""

from __future__ import annotations

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.report.console import score_markdown
from tests.report.matrices import UNMEASURED


def test_the_description_shows_every_score_and_what_was_forgotten() -> None:
    scored = lambda value: TaskScore(value, value - 0.1, value + 0.1, 0, 0, 0, 8, 2)  # noqa: E731
    matrix = ScoreMatrix().add("base", {"code": scored(0.25), "qa": scored(0.5)})
    matrix = matrix.add("1 code", {"code": scored(0.75), "qa": scored(0.375)})
    assert score_markdown(matrix).splitlines()[2:] == [
        "|  | code | qa | mean |",
        "| --- | ---: | ---: | ---: |",
        "| base | 25.0 (15.0 to 35.0) | 50.0 (40.0 to 60.0) | 37.5 |",
        "| after code | 75.0 (65.0 to 85.0) | 37.5 (27.5 to 47.5) | 56.2 |",
        "| forgotten (base - last) | -50.0 | +12.5 | -18.8 |",
    ]


def test_what_was_not_measured_is_a_dash() -> None:
    assert score_markdown(UNMEASURED).splitlines()[5:] == [
        "| after code | 70.0 (65.0 to 75.0) | - | - |",
        "| forgotten (base - last) | -40.0 | - | - |",
    ]
