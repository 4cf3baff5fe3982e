"""Scores of a run, on the console and as its description."""

from __future__ import annotations

import io

from rich.console import Console

from omnithink_pl.report.console import GAPS, bars, evaluation_line, legend, score_markdown, score_table
from tests.report.matrices import LEARNED, UNMEASURED, matrix


def printed(scores: object) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=80)
    console.print(scores)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_arrows_tell_a_change_beyond_the_interval_from_one_within_it() -> None:
    assert printed(score_table(LEARNED)) == [
        ["code", "math", "mean"],
        ["base", "30", "40", "35"],
        ["after", "code", "70", "▲", "38", "▽", "54", "▲19"],
        ["after", "math", "60", "▲", "80", "▲", "70", "▲35"],
        ["forgotten", "-30", "-40", "-35"],
    ]
    lost = score_table(matrix(base=[0.8, 0.4], s1_math=[0.3, 0.4]))
    assert printed(lost)[2] == ["after", "math", "30", "▼", "40", "35", "▼25"]
    within = matrix(base=[0.3, 0.4], s1_math=[0.28, 0.48])
    assert printed(score_table(within))[2] == ["after", "math", "28", "▽", "48", "▲", "38", "△3"]
    assert evaluation_line(within) == "after math: code 28 ▽2  math 48 ▲8  mean 38 △3"


def test_a_line_shows_the_last_row_and_its_change_since_the_base_if_there_is_one() -> None:
    assert evaluation_line(LEARNED) == "after math: code 60 ▲30  math 80 ▲40  mean 70 ▲35"
    base = matrix(base=[0.3, 0.4])
    assert printed(score_table(base))[1:] == [["base", "30", "40", "35"]]
    assert evaluation_line(base) == "base: code 30  math 40  mean 35"


def test_what_was_not_measured_is_a_dash_and_has_no_mean() -> None:
    assert printed(score_table(UNMEASURED))[2:] == [
        ["after", "code", "70", "▲", "-", "-", "-"],
        ["forgotten", "-40", "-", "-"],
    ]
    assert evaluation_line(UNMEASURED) == "after code: code 70 ▲40  math -  mean -"
    assert [GAPS in legend(one) for one in (UNMEASURED, LEARNED)] == [True, False]


def test_the_description_shows_every_score_and_what_was_forgotten() -> None:
    assert score_markdown(LEARNED).splitlines()[2:] == [
        "|  | code | math | mean |",
        "| --- | ---: | ---: | ---: |",
        "| base | 30.0 (25.0 to 35.0) | 40.0 (35.0 to 45.0) | 35.0 (31.5 to 38.5) |",
        "| after code | 70.0 (65.0 to 75.0) | 38.0 (33.0 to 43.0) | 54.0 (50.5 to 57.5) |",
        "| after math | 60.0 (55.0 to 65.0) | 80.0 (75.0 to 85.0) | 70.0 (66.5 to 73.5) |",
        "| forgotten (base - last) | -30.0 | -40.0 | -35.0 |",
    ]
    assert score_markdown(UNMEASURED).splitlines()[-1] == "| forgotten (base - last) | -40.0 | - | - |"


def test_the_time_left_is_shown_where_each_batch_takes_minutes() -> None:
    now = 0.0
    display = bars("sampling", "{task.description}", Console(file=io.StringIO(), width=80))
    display.get_time = lambda: now
    bar = display.add_task("", total=10, completed=2)
    for minutes in (1, 2, 3):
        now = 60.0 * minutes
        display.update(bar, advance=1)
    assert display.tasks[bar].time_remaining == 5 * 60
