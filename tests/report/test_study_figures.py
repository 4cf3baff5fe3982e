"""Which scores a figure is made of; how it looks is for eyes."""

from __future__ import annotations

from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.report.results import Method, StudyResults, final_scores
from omnithink_pl.report.study_figures import format_figure, format_scores
from omnithink_pl.report.study_tables import method_table, sample_note
from omnithink_pl.report.style import bar_panels
from tests.report.matrices import logged


def study(*metrics: dict[str, float]) -> StudyResults:
    """A base model without scores, and methods as ``validate`` logs them."""
    methods = [
        Method(f"m{index}", {name: {0: value} for name, value in final_scores(one, True).items()}, {})
        for index, one in enumerate(metrics)
    ]
    return StudyResults("s", (Method("base", {}, {}), *methods), (0,))


PAPER = logged(qa=0.5, qa__mmlu_pro=0.5, qa__mmlu_pro__law=0.3, qa_letter__mmlu_pro_letter=0.6)
EMBEDDED = logged(qa=0.5, qa__qa_text=0.5, qa_letter=0.4, qa_letter__qa_letter=0.4)
TEXT_ONLY = logged(qa=0.5, qa__mmlu_pro=0.5)


def test_the_same_questions_answered_in_full_and_with_a_letter_are_found_and_drawn_by_method() -> None:
    assert format_scores(study(PAPER)) == ("qa/mmlu_pro", "qa_letter/mmlu_pro_letter")
    assert study(PAPER).tasks == ["qa"]  # answers by letter are no task, and still stand in Table 2
    assert "qa_letter/mmlu_pro_letter" in [row[0] for row in method_table(study(PAPER)).rows]
    assert format_scores(study(EMBEDDED)) == ("qa/qa_text", "qa_letter/qa_letter")
    assert format_figure(study(TEXT_ONLY)) is None
    axes = format_figure(study(EMBEDDED, {**EMBEDDED, "eval/qa_letter/qa_letter": 0.7})).figure.axes
    assert [[round(bar.get_width()) for bar in panel.patches] for panel in axes] == [[50, 50], [40, 70]]


def test_no_label_of_many_methods_covers_another_or_leaves_the_picture() -> None:
    estimates = [Estimate(0.1 * i - 0.3, 0.1 * i - 0.5, 0.1 * i) for i in range(5)]
    figure = bar_panels(
        ["code", "math", "qa", "writing", "mean"],
        {f"a method of long name {i}": [*estimates[:-1], None if i == 3 else estimates[-1]] for i in range(9)},
        title="title", unit="points", note="a note of some length",
    )  # fmt: skip
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels(), axes.title)]
    texts += [figure._suptitle, figure._supxlabel]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    assert len(boxes) > 9 + 5 * 9
    assert not [(a[0], b[0]) for i, a in enumerate(boxes) for b in boxes[:i] if a[1].overlaps(b[1])]
    assert not [text for text, box in boxes if box.x0 < figure.bbox.x0 or box.x1 > figure.bbox.x1]


def test_captions_say_how_many_seeds_and_prompts() -> None:
    prompts = {"math": {0: {"1": 1.0, "2": 0.0}, 1: {"1": 0.0, "2": 0.0}}}
    ours = Method("ours", {"math": {0: 0.5, 1: 0.0}}, prompts)
    base = Method("base", {"math": {0: 0.5, 1: 0.5}}, prompts)
    assert sample_note(StudyResults("s", (base, ours), (0, 1))) == "2 seeds, 2 prompts of each task"
    one = Method("one", {"math": {0: 0.5}}, {})
    assert sample_note(StudyResults("s", (base, ours, one), (0, 1))) == "1 to 2 seeds, 2 prompts of each task"
