"""The paper's numbers, held against each other, and kept apart from ours."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from omnithink_pl.curriculum.planning import Scores, TransferScores, plan
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report import paper
from omnithink_pl.report.paper import answer_formats, benchmarks, scores
from omnithink_pl.report.plan_tables import rule_note
from omnithink_pl.report.results import Method, RunResult, StudyResults
from omnithink_pl.report.study_figures import gains_figure
from omnithink_pl.report.study_tables import gain_table, method_table, order_table
from omnithink_pl.report.transfer_tables import forgettability_table, paper_transfer

# Questions of each category of MMLU-Pro.
SIZES = {
    "biology": 717, "business": 789, "chemistry": 1132, "computer science": 410, "economics": 844,
    "engineering": 969, "health": 818, "history": 381, "law": 1101, "math": 1351, "other": 924,
    "philosophy": 499, "physics": 1299, "psychology": 798,
}  # fmt: skip
SINGLE = {domain: f"single_{domain}" for domain in paper.DOMAINS}


def recomputed(column: str) -> dict[str, float]:
    """The domain scores of a column of Table 2, in percent, from its printed cells."""
    table = scores(2)
    right = sum(size * table[f"qa/mmlu_pro/{category}"][column] for category, size in SIZES.items())
    plain = {domain: fmean(table[name][column] for name in benchmarks(domain)) for domain in ("code", "math")}
    own = {**plain, "qa": right / sum(SIZES.values()), "writing": table["writing/mt_bench"][column]}
    return {domain: 100 * score for domain, score in own.items()}


def test_the_printed_benchmarks_make_the_printed_domain_scores() -> None:
    # Table 1, and section 5.1 of the others, to the printed digits; 84.2 is printed once, from 84.17 or so.
    printed = {
        "base": {"code": 29.6, "math": 55.9, "qa": 41.5, "writing": 74.2},
        "curriculum": {"code": 35.4, "math": 59.6, "qa": 52.2, "writing": 84.2},
        "joint": {"code": 32.1, "qa": 48.8, "writing": 83.0},
        "merging": {"code": 34.4, "qa": 49.8},
        "single_qa": {"qa": 51.35},
    }
    for column, own in printed.items():
        found = {domain: 100 * row[column] for domain, row in paper.domain_scores().items()}
        assert found == pytest.approx(recomputed(column))
        assert {domain: found[domain] for domain in own} == pytest.approx(own, abs=0.051), column
    assert 100 * paper.domain_scores()["qa"]["curriculum"] == pytest.approx(52.23, abs=0.005)
    assert 100 * answer_formats()["text", "text"] == pytest.approx(recomputed("single_qa")["qa"], abs=0.006)
    assert {domain: row["reverse"] for domain, row in paper.domain_scores().items()} == {
        domain: row["reverse"] for domain, row in scores(1).items()
    }


def test_both_axes_of_transfer_are_those_that_the_table_gives() -> None:
    base, single = recomputed("base"), {domain: recomputed(column) for domain, column in SINGLE.items()}
    change = {(i, j): single[i][j] - base[j] for i in SINGLE for j in SINGLE}
    causes = [fmean(change[task, j] for j in SINGLE if j != task) for task in SINGLE]
    victims = [fmean(change[i, task] for i in SINGLE if i != task) for task in SINGLE]
    assert [round(value, 2) for value in causes] == [-1.10, -1.78, -3.71, 0.11]
    assert [round(value, 2) for value in victims] == [0.53, -0.48, -1.96, -4.57]  # what section 5.3 prints
    found = [paper_transfer()[domain] for domain in SINGLE]
    assert [100 * value for pair in found for value in pair] == pytest.approx(
        [value for pair in zip(causes, victims, strict=True) for value in pair]
    )


def test_the_headline_is_the_mean_of_the_relative_gains() -> None:
    ours, printed = recomputed("curriculum"), {"joint": (5.24, "5.2"), "merging": (9.16, "9.1")}
    for other, (value, text) in printed.items():
        theirs = recomputed(other)
        assert 100 * fmean(ours[d] / theirs[d] - 1 for d in ours) == pytest.approx(value, abs=0.01)
        assert 100 * paper.relative_gain("curriculum", other) == pytest.approx(value, abs=0.01)
        assert paper.printed_gain(other) == text
    assert paper.printed_gain("sft") is None


def test_the_papers_rule_and_the_saturation_model_give_the_papers_order() -> None:
    table = paper.domain_scores()

    def alone(column: str) -> tuple[Scores, ...]:
        return tuple((np.array([[table[domain][column]]]),) for domain in SINGLE)

    found = plan(TransferScores(tuple(SINGLE), alone("base"), tuple(map(alone, SINGLE.values()))), draws=10)
    assert found.forgettability.order == ("code", "math", "qa", "writing") == found.predictions[0].order
    assert "the saturation model chooses the same order" in rule_note(found)


@pytest.mark.parametrize(
    ("name", "column", "printed", "rows", "fits"),
    [
        ("qa/mmlu_pro/economics", "sft", 29.60, 844, 59.60),
        ("qa/mmlu_pro/economics", "curriculum", 65.09, 844, 65.05),
        ("qa/mmlu_pro/philosophy", "sft", 38.20, 499, 38.28),
        ("qa/mmlu_pro/biology", "curriculum", 65.27, 717, 65.27),
        ("code/livecodebench", "curriculum", 21.30, 1660, 21.33),
    ],
)
def test_cells_that_cannot_be_are_noted(name: str, column: str, printed: float, rows: int, fits: float) -> None:
    assert scores(2)[name][column] == pytest.approx(printed / 100)
    shares = {round(100 * right / rows, 2) for right in range(rows + 1)}
    assert fits in shares
    assert (printed in shares) == (printed == fits)
    assert column in paper.notes()[name].lower()


def test_the_other_cells_are_shares_of_their_benchmarks() -> None:
    """The code benchmarks and MT-Bench are cut off after two digits, or rounded."""
    rows = {"math/aime24": 150, "math/amc23": 200, "math/gaokao2023en": 385, "math/math500": 500,
            "math/minerva_math": 272, "math/olympiadbench": 675, "code/bigcodebench": 1140, "code/livecodebench": 1660,
            **{f"qa/mmlu_pro/{name}": size for name, size in SIZES.items()}}  # fmt: skip
    cannot = {(name, column) for name in scores(2) for column in scores(2)[name]
              if not any(abs(10_000 * right / size - 10_000 * scores(2)[name][column]) < 1
                         for size in (rows.get(name, 120),) for right in range(size + 1))}  # fmt: skip
    assert cannot == {
        ("qa/mmlu_pro/economics", "sft"), ("qa/mmlu_pro/economics", "curriculum"), ("qa/mmlu_pro/philosophy", "sft"),
        ("code/livecodebench", "curriculum"),
        *(("writing/mt_bench", column) for column in ("single_code", "single_qa", "joint", "curriculum")),
    }  # fmt: skip


def papers_study() -> StudyResults:
    """The paper's own table as a study of ours: one seed, no prompts."""
    table, means = scores(2), paper.domain_scores()
    columns = {"base": None, "curriculum": None, "joint": None, "merging": None, **dict.fromkeys(SINGLE.values())}
    methods = []
    for column in columns:
        own = {name: {0: row[column]} for name, row in table.items()} | {
            f"{domain}/*": {0: row[column]} for domain, row in means.items()
        }
        task = column.removeprefix("single_")
        trained = paper.DOMAINS if column == "curriculum" else (task,) if task in SINGLE else ()
        run = RunResult(column, 0, column, tuple(Stage({one: 1.0}, 1) for one in trained))
        methods.append(Method(column, own, {}, column, (run,)))
    return StudyResults("paper", tuple(methods), (0,))


def test_a_report_on_the_papers_own_scores_has_its_numbers_on_both_sides() -> None:
    own = papers_study()
    gains = {row[0]: row for row in gain_table(own).rows}
    assert gains["joint"][-2:] == ["+5.2", "+5.24 (printed 5.2)"]
    assert gains["merging"][-2:] == ["+9.2", "+9.16 (printed 9.1)"]
    assert list(forgettability_table(own).rows) == [
        ["code", "−1.1", "+0.5", "−1.10", "+0.53", "about +0.5"],
        ["math", "−1.8", "−0.5", "−1.78", "−0.48", "less than 1 down"],
        ["qa", "−3.7", "−2.0", "−3.71", "−1.96", "about −2"],
        ["writing", "+0.1", "−4.6", "+0.11", "−4.57", "about −4.5"],
    ]
    domains = {row[0]: row[1:] for row in method_table(own).rows if row[0].endswith("/*")}
    for cells in domains.values():
        assert cells[::2] == cells[1::2]
    bars = gains_figure(own).figure.axes[0]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names[:4] == ["curriculum", "curriculum (paper)", "joint", "joint (paper)"]
    widths = [bar.get_width() for bar in bars.patches]
    assert widths[::2] == pytest.approx(widths[1::2])


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
