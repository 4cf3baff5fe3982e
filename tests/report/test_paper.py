"""The paper's numbers, held against each other, and kept apart from ours."""

from __future__ import annotations

from statistics import fmean

import pytest

from omnithink_pl.report.paper import answer_formats, benchmarks, scores
from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.study_tables import method_table, order_table

# Questions of each category of MMLU-Pro.
SIZES = {
    "biology": 717, "business": 789, "chemistry": 1132, "computer science": 410, "economics": 844,
    "engineering": 969, "health": 818, "history": 381, "law": 1101, "math": 1351, "other": 924,
    "philosophy": 499, "physics": 1299, "psychology": 798,
}  # fmt: skip


def mmlu_pro(column: str) -> float:
    """The mean over its questions, from the printed scores of its categories."""
    right = sum(size * scores(2)[f"qa/mmlu_pro/{category}"][column] for category, size in SIZES.items())
    return right / sum(SIZES.values())


@pytest.mark.parametrize("column", ["base", "curriculum"])
def test_the_printed_benchmarks_make_the_printed_domain_scores(column: str) -> None:
    one, two = scores(1), scores(2)
    for domain in ("code", "math"):
        assert fmean(two[name][column] for name in benchmarks(domain)) == pytest.approx(one[domain][column], abs=2e-3)
    assert mmlu_pro(column) == pytest.approx(one["qa"][column], abs=1e-3)
    assert two["writing/mt_bench"][column] == pytest.approx(one["writing"][column], abs=1e-3)
    assert mmlu_pro("single_qa") == pytest.approx(answer_formats()["text", "text"], abs=1e-3)


def study(own: dict[str, float]) -> StudyResults:
    by_seed = {name: {0: value} for name, value in own.items()}
    methods = [Method(name, by_seed, {}, paper) for name, paper in (("base", "base"), ("together", "joint"))]
    return StudyResults("s", tuple(methods), (0,))


def test_without_a_benchmark_in_common_no_number_of_the_paper_appears() -> None:
    own = study({"math": 0.5, "math/greedy": 0.5})
    for made in (order_table(own), method_table(own)):
        assert not any("paper" in column for column in made.columns)
        assert "its numbers do not stand beside ours" in made.note


def test_a_benchmark_in_common_has_the_printed_number_beside_it_and_other_rows_have_none() -> None:
    made = method_table(study({"math": 0.5, "math/math500": 0.4, "math/mine": 0.3}))
    assert list(made.columns) == ["", "base", "paper", "together", "paper"]
    rows = {row[0]: row for row in made.rows}
    assert rows["math/math500"] == ["math/math500", "40.0", "78.2", "40.0", "77.6"]
    assert (rows["math"][2], rows["math/mine"][2]) == ("", "")
    assert "Qwen2.5-7B-Instruct" in made.note


def test_a_domain_is_the_papers_only_with_the_same_benchmarks() -> None:
    whole = {"code/*": 0.3, **dict.fromkeys(benchmarks("code"), 0.3)}
    assert order_table(study(whole)).rows[0][-1] == "29.6"
    assert not any("paper" in column for column in order_table(study({**whole, "code/mine": 0.1})).columns)
