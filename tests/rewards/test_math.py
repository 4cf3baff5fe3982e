"""The math reward: which expression is compared, by which rule, and what hostile answers cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from omnithink_pl.rewards import MathReward
from omnithink_pl.rewards.math_notation import final_expression
from omnithink_pl.types import Outcome, State
from tests.rewards.groups import answered, group, outcome


@pytest.fixture(scope="module")
def reward() -> Iterator[MathReward]:
    reward = MathReward(workers=1, timeout=20.0)
    yield reward
    reward.close()


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "5",
            ["5", "$5$", "x = 5", r"\boxed{4}, no: \boxed{5}", "5 cm", "the answer is 5"],
            ["5 or 6", "5, 6", r"\boxed{5}, no: \boxed{4}", "0=5"],
        ),
        (r"\boxed{5}", ["5"], []),
        ("1000", ["1,000"], []),
        (r"\frac{1}{2}", ["1/2"], []),
        (r"\frac12", ["0.5"], []),
        ("1/3", [], ["0.333"]),
        ("x^2+1", ["(x+1)^2 - 2x"], ["y^2+1"]),
        (r"\sqrt{2}", ["2^{1/2}"], ["1.41"]),
        (r"\{1,2\}", [r"\{2,1\}"], []),
        # Leniencies and asymmetries of math-verify that the docstring names.
        (r"90^\circ", [], [r"\pi/2"]),
        ("50", [r"50\%"], []),
        ("(1,2)", [], ["1<x<2"]),
        ("1<x<2", ["(1,2)"], []),
    ],
)
def test_equal_expressions_are_right_however_they_are_written(
    reward: MathReward, gold: str, right: list[str], wrong: list[str]
) -> None:
    (found,) = reward.score([group(gold, *map(answered, right + wrong))])
    assert found == [Outcome.of(1.0)] * len(right) + [Outcome.of(0.0)] * len(wrong)


UNREADABLE = ["", "five", r"\frac{5", "?!", "7" * 100_000, "(" * 300 + "5" + ")" * 300]


def test_what_cannot_be_read_is_undefined_not_zero(reward: MathReward) -> None:
    (found,) = reward.score([group("5", "5", *map(answered, UNREADABLE))])
    reasons = ["no answer segment"] + ["unparseable answer"] * len(UNREADABLE)
    assert found == [Outcome.undefined(reason) for reason in reasons]
    golds = {
        "": "empty",
        r"\frac{}{}}{": "braces do not match",
        r"\frac{}{}": "cannot be read",
        "7" * 1001: "longer than 1000 characters",
        "(" * 41 + "5": "nested deeper than 40",
    }
    for gold, flaw in golds.items():
        assert outcome(reward, gold, answered("5")) == Outcome.undefined(f"unusable reference: {flaw}")
    assert outcome(reward, r"\frac{}{}}{", answered(r"\frac{}{}}{")) == Outcome.of(1.0)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("A", ["A", "(A)"], ["B", "A or B"]),
        ("(C)", [r"\text{C}"], []),
        (r"\text{(B)}", [r"\boxed{B}"], []),
        ("No", ["no"], ["on"]),
        (r"\text{even}", ["Even."], []),
        (r"\text{Mary Ann}", [r"\text{Mary  Ann}"], []),
        ("Monday", [], ["Tuesday", "5", "Monday or Tuesday"]),
        ("12", ["12", "24/2"], ["13"]),
    ],
)
def test_letters_words_and_plain_numbers_are_compared_without_a_worker(
    gold: str, right: list[str], wrong: list[str]
) -> None:
    reward = MathReward()
    (found,) = reward.score([group(gold, *map(answered, right + wrong))])
    assert found == [Outcome.of(1.0)] * len(right) + [Outcome.of(0.0)] * len(wrong)
    assert reward._pool._workers == []


@pytest.fixture(scope="module")
def hurried() -> Iterator[MathReward]:
    reward = MathReward(timeout=2.5)
    reward.score([group("x+1", answered("1+x"))])
    yield reward
    reward.close()


HOSTILE = [
    r"\frac{1}{" * 39 + "2" + "}" * 39,
    *(left * 40 + "x" + right * 40 for left, right in (("(", ")"), (r"\sqrt{", "}"), ("x^{", "}"))),
    *("9^{9^{9^{9}}}", "10^{10^{9}}", "100000000!", "9!!!!!!", "(x+y+z+w)^{5000}"),
    *(r"\binom{100000000}{50000000}", r"\prod_{k=1}^{10^9} k"),
    *("7" * 1000, "\x00" * 900, "$" * 100_000, r"\boxed{" * 20_000, "{" * 100_000, "\ud800"),
    *(r"\(" * 50_000, "**a" * 30_000, "`" * 100_000, "answer is " * 10_000),
    *(",5" * 499, "(" * 39 + "1," * 450, "^" * 999, r"\frac" * 199, "2^" * 499 + "2", "9!" * 499, "1e" + "9" * 300),
    *(r"\pm 1," * 140, "- " * 499 + "1", "|x" * 490, "=x" * 490, "x is " * 190, "1 million " * 99, "5 " + "km/" * 300),
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:12].strip("\x00\ud800"))
def test_a_hostile_answer_earns_nothing_and_the_next_one_is_verified(hurried: MathReward, answer: str) -> None:
    assert not outcome(hurried, "x+1", answered(answer)).value
    assert outcome(hurried, f"x+{len(answer)}", answered(f"{len(answer)}+x")) == Outcome.of(1.0)


def test_a_slow_answer_is_undefined_and_costs_no_worker() -> None:
    reward = MathReward(timeout=6.0)
    reward.score([group("x+1", answered("1+x"))])
    (worker,) = reward._pool._workers
    (scores,) = reward.score([group("3", answered("x^{" * 40 + "x" + "}" * 40), answered("1+2"))])
    assert scores == [Outcome.undefined("verification timed out"), Outcome.of(1.0)]
    assert reward._pool._workers == [worker]
    reward.close()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP], ids=lambda sent: sent.name)
def test_a_worker_that_dies_or_hears_no_alarm_is_replaced_and_costs_nothing(sent: signal.Signals) -> None:
    reward = MathReward(timeout=6.0)
    reward.score([group("y", answered("2y/2"))])
    (worker,) = reward._pool._workers
    os.kill(worker._process.pid, sent)
    assert outcome(reward, "x+1", answered("1+x")) == Outcome.of(1.0)
    assert worker not in reward._pool._workers
    reward.close()


def test_outcomes_keep_the_order_of_groups_and_completions(reward: MathReward) -> None:
    scores = reward.score(
        [group("x+1", *map(answered, ("1+x", "x", "1+x", "none"))), group("7", answered("7"), "7", answered("8"))]
    )
    assert [[o.value for o in row] for row in scores] == [[1.0, 0.0, 1.0, None], [1.0, None, 0.0]]


def test_a_verifier_that_always_dies_is_our_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = MathReward()
    dies = "print('ready', flush=True); input(); raise SystemExit(1)"
    monkeypatch.setattr(reward._pool, "_command", [sys.executable, "-c", dies])
    assert outcome(reward, "x", answered("y")).state is State.FAILED
    reward.close()


def test_verifying_imports_neither_sympy_nor_torch_here() -> None:
    program = (
        "import sys; from omnithink_pl.rewards import MathReward\n"
        "from tests.rewards.groups import answered, outcome\n"
        "reward = MathReward(timeout=20.0); print(outcome(reward, 'x+1', answered('1+x')).value); reward.close()\n"
        "print([name for name in ('sympy', 'math_verify', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["1.0", "[]"]
    assert done.stderr == ""


@pytest.mark.parametrize("key", ["timeout", "workers"])
def test_impossible_settings_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        MathReward(**{key: 0})


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("5", ["5", " 5. ", "= 5", "$5$", "$$5$$", r"\(5\)", r"\boxed{4}, no, \boxed{5}", r"\boxed{5} and \boxed{4"]),
        ("5", ["**5**", "#### 5", r"\boxed 5", "We add 2 and 3. The answer is **5**.", r"So, \[5\]"]),
        ("5 apples", [r"There are \(5\) apples.", "There are $5$ apples, I think."]),
        ("5 million", [r"\boxed{5} million", r"It is $\boxed{5}$ million."]),
        (r"2 is not \(5\)", [r"2 is not \(5\)"]),
        ("x^2", [r"\[x^2\]", "The sum is $x^2$."]),
        (r"It costs \$5", [r"It costs \$5"]),
        (r"\frac{1}{2}", [r"\boxed{\frac{1}{2}}"]),
        (r"\{1, 2\}", [r"$\boxed{\{1, 2\}}$"]),
    ],
)
def test_the_last_box_or_the_only_formula_or_the_whole_text(expression: str, texts: list[str]) -> None:
    assert [final_expression(text) for text in texts] == [expression] * len(texts)
