"""Which scores a figure is made of; how it looks is for eyes."""

from __future__ import annotations

from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.study_figures import format_figure, format_scores
from omnithink_pl.report.study_store import final_scores
from omnithink_pl.report.study_tables import table2


def study(*metrics: dict[str, float]) -> StudyResults:
    """A base model without scores, and methods as ``validate`` logs them."""
    methods = [
        Method(f"m{index}", {name: {0: value} for name, value in final_scores(one, True).items()}, {})
        for index, one in enumerate(metrics)
    ]
    return StudyResults("s", (Method("base", {}, {}), *methods), (0,))


PAPER = {"eval/qa": 0.5, "eval/qa/mmlu_pro": 0.5, "eval/qa/mmlu_pro/law": 0.3, "eval/qa_letter/mmlu_pro_letter": 0.6}
EMBEDDED = {"eval/qa": 0.5, "eval/qa/qa_text": 0.5, "eval/qa_letter": 0.4, "eval/qa_letter/qa_letter": 0.4}


def test_the_same_questions_answered_in_full_and_with_a_letter_are_found() -> None:
    assert format_scores(study(PAPER)) == ("qa/mmlu_pro", "qa_letter/mmlu_pro_letter")
    assert format_scores(study(EMBEDDED)) == ("qa/qa_text", "qa_letter/qa_letter")
    assert format_scores(study({"eval/qa": 0.5, "eval/qa/mmlu_pro": 0.5})) is None
    assert format_figure(study({"eval/qa": 0.5, "eval/qa/mmlu_pro": 0.5})) is None


def test_the_figure_has_a_bar_for_each_form_of_each_method() -> None:
    figure = format_figure(study(EMBEDDED, {**EMBEDDED, "eval/qa_letter/qa_letter": 0.7}))
    assert figure is not None
    heights = sorted(round(bar.get_height()) for bar in figure.axes[0].patches)
    assert heights == [40, 50, 50, 70]


def test_answers_by_letter_are_no_task_and_still_stand_in_table_2() -> None:
    one = study(PAPER)
    assert one.tasks == ["qa"]
    assert "qa_letter/mmlu_pro_letter" in [row[0] for row in table2(one).rows]


def test_what_validate_logs_is_told_from_what_a_fit_logs() -> None:
    logged = {"eval/math": 0.5, "eval/math/low": 0.4, "eval/math/greedy": 0.6, "eval/mean": 0.5, "train/kl": 0.1}
    assert final_scores(logged, False) == {"math": 0.5, "math/greedy": 0.6}
    held_out = {"eval/math": 0.6, "eval/math/math": 0.6, "eval/math/math/low": 0.5, "eval/math/math/failed": 0.0}
    assert final_scores(held_out, True) == {"math/greedy": 0.6}
    assert final_scores(PAPER, True)["qa/*"] == 0.5
