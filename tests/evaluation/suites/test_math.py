"""Golds of the math suites, scored by the reward of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation import suites
from omnithink_pl.evaluation.suites.math import MathSuite
from omnithink_pl.rewards import MathReward
from omnithink_pl.types import Example
from tests.evaluation.suites.rows import MATH, Row, write
from tests.rewards.groups import answered, outcome


@pytest.fixture(scope="module")
def reward() -> Iterator[MathReward]:
    reward = MathReward(timeout=60)  # whatever else the machine does
    yield reward
    reward.close()


def loaded(name: str, directory: Path, *rows: Row) -> list[Example]:
    source: MathSuite = getattr(suites, name)(str(write(directory / "rows.jsonl", *rows)))
    return source.examples("math", "test")


MINERVA, OLYMPIAD = "7e-8", "$2,-\\frac{1}{3}$"


@pytest.mark.parametrize(
    ("name", "gold", "wrong"),
    [
        ("AIME24", "204", "205"),
        ("AMC23", "27", "-27"),
        ("Gaokao2023EN", "$-\\frac{1}{2}$", "1/2"),
        ("Math500", "\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi)"),
        ("Minerva", MINERVA, "8e-8"),
        ("OlympiadBench", OLYMPIAD, "2, 1/3"),
        ("GSM8K", "70000", "7000"),
    ],
)
def test_a_gold_earns_1_and_a_perturbed_one_0(
    name: str, gold: str, wrong: str, tmp_path: Path, reward: MathReward
) -> None:
    (example,) = loaded(name, tmp_path, MATH[name])
    assert example.reference == gold
    assert example.question in (MATH[name].get("problem"), MATH[name].get("question"))
    assert [outcome(reward, gold, answered(answer)).value for answer in (gold, wrong)] == [1.0, 0.0]


@pytest.mark.parametrize("answer", ["7e-8", "7E-08", "7 \\times 10^{-8}", "7 \\cdot 10^{-8}"])
def test_a_measurement_may_be_written_with_e_or_as_a_power_of_ten(answer: str, reward: MathReward) -> None:
    assert outcome(reward, MINERVA, answered(answer)).value == 1.0
    assert outcome(reward, "2e-1", answered("-1+2e")).value == 1.0  # elsewhere e is Euler's number


@pytest.mark.parametrize(("answer", "value"), [("-1/3, 2", 1.0), ("\\{-\\frac13, 2\\}", 1.0), ("2", 0.0)])
def test_several_answers_joined_by_commas_are_a_set(answer: str, value: float, reward: MathReward) -> None:
    assert outcome(reward, OLYMPIAD, answered(answer)).value == value


def test_a_context_stands_before_its_question(tmp_path: Path) -> None:
    row = MATH["OlympiadBench"] | {"context": "Let $x>0$."}
    assert loaded("OlympiadBench", tmp_path, row)[0].question == "Let $x>0$.\nSolve for $x$."


def test_two_empty_golds_of_gaokao_stay_in_and_a_third_is_refused(tmp_path: Path, reward: MathReward) -> None:
    row = MATH["Gaokao2023EN"]
    examples = loaded("Gaokao2023EN", tmp_path, row, row | {"answer": ""}, row | {"answer": None})
    assert len(examples) == 3  # published scores are shares of all rows
    assert outcome(reward, examples[1].reference, answered("1")).value is None
    with pytest.raises(BadInput, match=r"rows 1, 2, 3 have no gold answer, and the benchmark is known to lack 2"):
        loaded("Gaokao2023EN", tmp_path, row, *[row | {"answer": ""}] * 3)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("AIME24", {"problem": None}, "rows 60 ask nothing"),
        ("AIME24", {"problem": " "}, "rows 60 ask nothing"),
        *((name, {"answer": ""}, "have no gold answer") for name in ("AIME24", "AMC23", "Math500", "Minerva")),
        ("OlympiadBench", {"final_answer": ["2", "3"]}, r"row 0 \(id 1606\): 'final_answer'.*configuration OE_TO"),
        ("GSM8K", {"answer": "70,000"}, "row 0: 'answer' has no '####'"),
    ],
)
def test_an_unusable_row_is_named(name: str, change: Row, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"{name}\(.*{message}"):
        loaded(name, tmp_path, MATH[name] | change)


def test_copies_of_a_row_and_the_older_copy_of_minerva_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"AIME24\(.*several rows are called '60'"):
        loaded("AIME24", tmp_path, MATH["AIME24"], MATH["AIME24"])
    with pytest.raises(BadInput, match=r"Minerva\(.*no column question, answer among \['problem', 'solution'\]"):
        loaded("Minerva", tmp_path, {"problem": "Find it.", "solution": "So $\\boxed{3}$."})


def test_a_set_of_another_size_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "rows.jsonl", MATH["AMC23"])
    suites.AMC23(str(path)).examples("math", "test")
    assert f"AMC23({path}) has 1 rows, the benchmark 40" in caplog.text


def test_the_papers_copy_of_olympiadbench_is_no_other_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = MATH["OlympiadBench"]
    assert len(loaded("OlympiadBench", tmp_path, *(row | {"id": number} for number in range(675)))) == 675
    assert "another set" not in caplog.text


@pytest.mark.parametrize("folder", ["", "main"])
def test_a_directory_without_a_card_has_its_configurations_in_folders(folder: str, tmp_path: Path) -> None:
    write(tmp_path / folder / "test-00000-of-00001.jsonl", MATH["GSM8K"])
    write(tmp_path / "socratic" / "test-00000-of-00001.jsonl", MATH["GSM8K"]) if folder else None
    assert len(suites.GSM8K(str(tmp_path)).examples("math", "test")) == 1


def test_a_suite_has_nothing_to_train_on() -> None:
    assert suites.AIME24("/nowhere").examples("math", "train") == []
