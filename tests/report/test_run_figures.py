from __future__ import annotations

import io

import matplotlib
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report import style
from omnithink_pl.report.run_figures import forgetting_figure, learning_curves_figure, score_matrix_figure
from tests.report.matrices import LEARNED, UNMEASURED, matrix

STAGES = [Stage({"code": 1.0}, 10), Stage({"math": 1.0}, 10), Stage({"code": 1.0}, 10)]


def axes(figure: Figure) -> Axes:
    figure.savefig(io.BytesIO(), format="png")  # what cannot be drawn fails here
    (only,) = figure.axes
    return only


def texts(drawn: Axes) -> list[str]:
    return [text.get_text() for text in drawn.texts]


def test_the_heat_map_has_every_score_its_interval_the_mean_and_outlines_what_each_stage_trained() -> None:
    drawn = axes(score_matrix_figure(LEARNED, [["code"], ["math"]]))
    assert texts(drawn) == [
        *("30", "25 to 35", "40", "35 to 45", "35", ""),
        *("70", "65 to 75", "38", "33 to 43", "54", "+19"),
        *("60", "55 to 65", "80", "75 to 85", "70", "+35"),
    ]
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["base", "after code", "after math"]
    outlined = [patch for patch in drawn.patches if not patch.get_fill()]
    assert [(round(p.get_x() + 0.47), round(p.get_y() + 0.46)) for p in outlined] == [(0, 1), (1, 2)]


def test_bars_above_zero_are_forgotten_as_the_axis_says() -> None:
    drawn = axes(forgetting_figure(matrix(base=[0.8, 0.2], s1_math=[0.5, 0.9])))
    code, math, mean = drawn.patches
    assert [round(bar.get_width()) for bar in (code, math, mean)] == [30, -70, -20]
    assert [to_hex(bar.get_facecolor()).upper() for bar in (code, math)] == [style.FORGOTTEN, style.LEARNED]
    assert "P_{base} - P_{after}" in drawn.figure._supxlabel.get_text()
    assert texts(drawn) == ["+30", "−70", "−20"]
    half = 100 * (2 * 0.05**2) ** 0.5  # two independent intervals of 5 points
    ends = [end for lines in drawn.collections for end in lines.get_segments()[0][:, 0]]
    assert ends == pytest.approx([30 - half, 30 + half, -70 - half, -70 + half, -25, -15])


def test_nothing_can_be_forgotten_before_a_stage_has_ended() -> None:
    with pytest.raises(ValueError, match="no row after a stage"):
        forgetting_figure(matrix(base=[0.3, 0.4]))


def test_curves_show_every_reward_and_break_where_a_task_is_not_trained() -> None:
    rewards = {"code": [(step, 0.5) for step in [*range(1, 11), *range(21, 31)]], "math": [(11, 0.1), (12, 0.2)]}
    drawn = axes(learning_curves_figure(rewards, STAGES, ScoreMatrix()))
    raw = [list(line.get_xdata()) for line in drawn.lines if line.get_alpha() == 0.3]
    assert raw == [list(range(1, 11)), list(range(21, 31)), [11, 12]]
    assert texts(drawn) == ["1 code", "2 math", "3 code"]


def test_evaluations_stand_at_the_ends_of_the_stages() -> None:
    drawn = axes(learning_curves_figure({"code": []}, STAGES, LEARNED))
    dots = [line for line in drawn.lines if line.get_marker() == "o"]
    assert [[round(x, -1) for x in line.get_xdata()] for line in dots] == [[0, 10, 20]] * 2
    assert [list(line.get_ydata()) for line in dots] == [[0.3, 0.7, 0.6], [0.4, 0.38, 0.8]]


def test_a_moving_average_is_the_mean_of_the_values_around() -> None:
    assert style.moving_average([0.0, 3.0, 6.0, 0.0], 3) == [1.5, 3.0, 3.0, 3.0]


def test_figures_leave_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    score_matrix_figure(LEARNED, [["code"], ["math"]])
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == (before, [])


def test_what_was_not_measured_is_drawn_as_such() -> None:
    missing = ["70", "65 to 75", "-", "not measured", "-", "not measured"]
    assert texts(axes(score_matrix_figure(UNMEASURED, [["code"]])))[6:] == missing
    assert texts(axes(forgetting_figure(UNMEASURED))) == ["−40", "not measured", "not measured"]
    axes(learning_curves_figure({}, STAGES, UNMEASURED))
