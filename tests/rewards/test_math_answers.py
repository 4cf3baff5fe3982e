"""Answers as models write them: sentences, options, several boxes, units, domains, and what takes an answer back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnithink_pl.rewards import MathReward
from tests.rewards.groups import answered, group, outcome

Row = tuple[str, list[str], list[str]]


@pytest.fixture(scope="module")
def reward() -> Iterator[MathReward]:
    reward = MathReward(timeout=60.0)
    yield reward
    reward.close()


RULES: dict[str, list[Row]] = {
    "who takes back or bounds a number has not stated it": [
        ("5", ["5 (apples)", "The least number that is not prime is 5"], ["> 5", r"\neq 5", "≥ 5", "!=5", r"\le 5"]),
        ("5", ["It is 5."], ["It isn't 5.", "5 is wrong", "5 (incorrect)", "cannot be 5", "all but 5", "5 false"]),
        ("no", ["No."], ["no or yes", "yes or no", "yes, no", "yes and no"]),
        ("yes", ["**Yes**"], ["yes, no", "no, yes", "yes and no"]),
    ],
    "boxes with only a comma or a word between them are one answer": [
        (
            "2, 3",
            [r"\boxed{2} and \boxed{3}", r"$\boxed{3}$, $\boxed{2}$"],
            [r"\boxed{3}", r"\boxed{2}, then \boxed{3}"],
        ),
        (
            "3",
            [r"\boxed{2}. So \boxed{3}", r"\boxed{3} and \boxed{3}"],
            [r"\boxed{2} or \boxed{3}", r"\boxed{3}, \boxed{2}"],
        ),
        (r"x<1 \text{ or } x>3", [r"\boxed{x<1} or \boxed{x>3}"], [r"\boxed{x>3}"]),
    ],
    "an option is its letter and its text": [
        (
            "B",
            ["(B) 42", "B. 42", "B) $42$", r"\textbf{(B)}\ 42", "Option B", "The correct option is B."],
            ["A. 42", "(B) or (C)"],
        ),
        ("42", ["(B) 42", r"\textbf{(B) }42", "B) 42"], ["(B) 43", "B", "(A) 41 (B) 42", "B(42)", "(B) or 42"]),
        (r"\textbf{(B) }42", ["B", "42", "(B) 42"], ["C", "(C) 42", "(B) 43"]),
    ],
    "yes and no may be explained": [
        ("yes", ["Yes, it is.", "Yes, such a set exists."], ["Yes, but no", "Yes, not", "Yes, for 5 of them"]),
        ("no", ["No, it does not.", "No. It diverges."], ["No, yes.", "Yes, it is not."]),
    ],
    "words, reasons and explanations around an answer do not count": [
        ("72", ["She sold 72 clips in April and May.", "In April and May she sold 72 clips"], ["72 clips and 5 pens"]),
        (
            "12",
            ["12, since the sum is even.", "12 because 3*4=12", "12\n\n**Explanation:** 3 by 4."],
            ["13 because not 12"],
        ),
        ("12", ["=> 12", "→ 12", "∴ 12", r"\fbox{12}", r"\boxed{\color{red}{12}}", r"\large 12"], ["12 => 13"]),
        ("64", ["Kylar needs to pay $64 at the farmers' market."], ["She needs $64 million"]),
        ("5", ["$5/hour", "US$5", "₹5"], ["5/2"]),
    ],
    "a short word of a sentence is no product of letters": [
        (
            "18",
            [
                *("Tom has 18 apples.", "Sam and Tom have 18 apples.", "Al has 18 cows", "Mr. Fu has 18 cows"),
                *("So, Anna has 18 apples.", "So 18 apples", "In total, 18 apples.", "In all, he has 18"),
                *("18 pieces of gum", "18 cups of tea", "18 hot dogs", "18 rap songs", "18 pies and hot dogs"),
            ],
            ["18 abc", "18 xy", "So 9, 18", "18 of tea and 3 of gum", "Sam 17, Tom 18"],
        ),
        (
            "18",
            ["The total cost is $18.", "Cost: $18", "cost = 18", "18 logs", "The tank holds 18 gallons."],
            ["18 cost 19", "The cost is $18 and $19"],
        ),
        (r"\cos t", ["cost", "x = cost"], ["t"]),
        (r"2 \log s", ["2logs"], ["2"]),
        (r"(\cos t, \sin t)", ["(cost, sint)"], ["(sint, cost)"]),
        ("Abc", ["Abc", "bcA"], ["ABC"]),
        ("Axy = C", ["Axy is C"], ["Axy is B"]),
    ],
    "glued functions and products are no words where the gold has their variables": [
        (r"(\cos t, \sin t)", ["x = cost and y = sint"], ["x = sint and y = cost"]),
        (r"\cos t, \sin t", ["cost and sint", "cost, sint"], ["cost"]),
        (r"3 \cos t - 4 \sin t", ["3 cost - 4 sint"], ["3 cost"]),
        (r"3+2\cos t", ["3 + 2 cost"], ["3 + 2t"]),
        (r"18\tan k", ["18 tank", "18 tan k"], ["18"]),
        (r"\log s \text{ or } 2", ["logs or 2"], ["log"]),
        ("Cx", ["Cx", "xC"], ["Dx"]),
        ("2pt+1", ["1+2pt", "1 + 2 pt"], ["2+1"]),
        ("(pt^2, 2pt)", ["(p t^2, 2 p t)"], ["(pt^2, 2)"]),
        ("AM=2MB", ["AM = 2BM"], ["AM = 2"]),
        ("2pt", ["2tp"], ["2"]),
    ],
    "an amount may be told with its factors": [
        (
            "18",
            [
                *("9 x $2 = $18", r"9 x \$2 = \$18", "9 apples * $2/apple = $18", r"\$9 + \$9 = \$18", "2 * $9 = 18"),
                *(
                    "20 apples - 2 apples = 18 apples",
                    "3 boxes x 6 pens per box = 18 pens",
                    "18 times",
                    "18 times as many",
                ),
            ],
            ["9 apples * $3 = $18", "18 apples - 2 apples", "18 apples -2", "three times 18", "times 18", "18 times 2"],
        ),
        ("2x(x+1)", ["2 x (x+1)"], ["2(x+1)"]),
    ],
    "a unit's case and prefix count, and factors are no units": [
        (r"5 \text{ MW}", ["5", "5 MW", r"5\text{ MW}"], ["5 mW", r"5 \text{ mW}", r"5 \text{ W}"]),
        (r"5 \text{ kN}", ["5 kN"], ["5 N", r"5 \text{ N}"]),
        (r"25 \text{ cents}", ["25 cents", "25"], ["$25", r"\$25", "25 dollars"]),
        ("15 mph", ["15 miles per hour", "15"], ["15 km/h", "15 m"]),
        ("284", ["284 sq cm", "284 MeV", "284 in total", "284 KG", "284 GB", "284 pts", "284 tsp"], ["284 mn"]),
        ("3 kg", ["3 Kg", "3 kgs"], ["3 g"]),
        ("5 km", ["5 km in total"], ["5 in", "5 m"]),
        ("4.5e33", [r"4.5 \times 10^{33} erg/s", "4.5×10^33 km"], [r"4.5 \times 10^{33} n"]),
        (r"2\mathrm{e}", ["2e"], ["2"]),
        (r"6 \mathrm{i}", ["6i"], ["6"]),
        (r"\frac{3}{2} mg", [r"\frac{3mg}{2}", "1.5mg"], [r"\frac{3}{2}"]),
    ],
    "a name may stand before letters, a function before its argument": [
        ("p-q", ["S = p-q"], ["p = q", "S = q-p"]),
        ("m_p g", ["F = m_p g"], ["m_p = g"]),
        (r"\frac{\pi}{3}", [r"\theta = \frac{\pi}{3}"], [r"2\theta = \frac{\pi}{3}"]),
        (r"\frac35", [r"\cos A = \frac35", r"\sin 2\alpha = \frac35"], [r"\cos A + 1 = \frac35", "x + 1 = 3/5"]),
        ("y(x)=e^{2x}", ["y=e^{2x}", "e^{2x}"], ["z=e^{2x}", "y=e^x"]),
        (r"\frac{x+2}{7}", [r"f^{-1}(x)=\frac{x+2}{7}"], [r"x^{-1}=\frac{x+2}{7}"]),
        ("m=n", ["n=m"], ["n", "m"]),
        ("even", ["n is even"], ["n is not even", "n is odd"]),
    ],
    "a domain may be added": [
        ("a_n=2n-1", [r"a_n=2n-1, n\in\mathbb{N}^*", r"2n-1 (n \in \mathbb{N})"], [r"2n, n\in\mathbb{N}"]),
        ("f(x)=x+1", [r"f(x)=x+1 \text{ for all real } x", r"x+1, \forall x\in\mathbb{R}"], ["x+1 for all x > 0"]),
        (r"k\pi, k \in \mathbb{Z}", [r"x=k\pi, k\in\mathbb{Z}"], [r"k\pi, k\in\mathbb{N}", r"k\pi"]),
        (r"0 \text{ for all } x<1, 1 \text{ for all } x \ge 1", [], ["0", "1"]),
    ],
    "a power of a factorial and a double factorial": [
        (r"\frac{(2n)!}{(n!)^2}", [r"\frac{(2n)!}{n!^2}"], [r"\frac{(2n)!}{n^2!}"]),
        ("(2n)!^2", ["(2n)! (2n)!"], ["(2n)!"]),
        ("5!!", ["5!!"], ["120", "6689502913449127057588118054090372586752746333138029810295671352301"]),
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, reward: MathReward) -> None:
    rows = RULES[rule]
    scored = reward.score([group(gold, *map(answered, [gold, *right, *wrong])) for gold, right, wrong in rows])
    for (gold, right, wrong), outcomes in zip(rows, scored, strict=True):
        earned = [answer for answer, found in zip([gold, *right, *wrong], outcomes, strict=True) if found.value == 1]
        assert earned == [gold, *right]


@pytest.mark.parametrize("text", ["\n * _ #", r"\boxed{1} or ", " and ", "\n", "**", "(A) ", "since "])
def test_an_endless_answer_is_unreadable_at_once(text: str, reward: MathReward) -> None:
    assert outcome(reward, "42", answered(text * 50_000)).value != 1.0


def test_a_repeated_factorial_asks_no_worker(reward: MathReward) -> None:
    assert outcome(reward, "42", answered("170!!!")).reason == "unparseable answer"
