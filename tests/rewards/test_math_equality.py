"""Rules of the equality of answers: each with golds, answers that are right and answers that are wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from fractions import Fraction

import pytest

from omnithink_pl.rewards import MathReward
from omnithink_pl.types import Outcome
from tests.rewards.groups import answered, group

Row = tuple[str, list[str], list[str]]


@pytest.fixture(scope="module")
def reward() -> Iterator[MathReward]:
    reward = MathReward(timeout=60.0)  # whatever else the machine does
    yield reward
    reward.close()


def wrong_verdicts(reward: MathReward, rows: list[Row]) -> list[tuple[str, str, Outcome]]:
    """The pairs of gold and answer that do not earn what they should: 1, or anything else."""
    outcomes = reward.score([group(gold, *map(answered, [*right, *wrong])) for gold, right, wrong in rows])
    return [
        (gold, answer, found)
        for (gold, right, wrong), row in zip(rows, outcomes, strict=True)
        for place, (answer, found) in enumerate(zip([*right, *wrong], row, strict=True))
        if (found.value == 1) != (place < len(right))
    ]


RULES: dict[str, list[Row]] = {
    "words around a number are its unit or nothing": [
        (
            "42",
            [
                "**Answer:** 42",
                "42 (apples)",
                "USD 42",
                "42 °C",
                "6 x 7 = 42",
                "$6 * 7 = $42",
                "42 $\\text{cm}^2$",
                "about 42",
            ],
            ["4 2", "42 and a half", "42 1/2", "42 hours 30 minutes", r"42 \pmod{50}", "42j", "- 42"],
        ),
        (
            "5",
            [
                r"\approx 5",
                "5\n",
                "5 \\\\",
                "{5}",
                "[5]",
                "5 units",
                r"5 \text{ units}^2",
                "$5.00",
                "5/1",
                "-(-5)",
                r"\text{The answer is } 5",
                r"\text{Therefore } x = 5",
                r"x \approx 5",
                "5 percent",
                "5 pairs",
            ],
            [
                "5x",
                "5, 6",
                "5 ± 1",
                "The answer is not 5",
                "the answer isn't 5",
                r"x \neq 5",
                "x > 5",
                "5 out of 6",
                "5 to 6",
                "5-6",
                "one half of 5",
                "5 squared",
                "5 hundredths",
                "5 tenths",
                "5 thousandths",
                "5 millions",
                "5 mil",
                "5M",
                "5 bn",
                "5 lakh",
                "5 years and 3 months",
                "5 feet 3 inches",
                "5 thirds",
                "5 halves",
                "minus 5",
                "5 below zero",
                "5 times 3",
                "5e",
                "5i",
                "5 mod 7",
                "5 dozen eggs",
                "5 score",
                "5 gross",
            ],
        ),
        (
            "12",
            ["It costs $12 per person.", "She has 12 apples left.", "12^{th}", "12%"],
            [
                "Half of 12",
                "more than 12",
                "12 dozen",
                "12k",
                "$12$ million",
                r"\boxed{12} million",
                r"$\boxed{12}$ thousand",
                r"12 \text{ million}",
                "12!",
            ],
        ),
        (
            "204",
            [
                "m+n = 204",
                "m + n = 100 + 104 = 204",
                r"The answer is $100+104=\boxed{204}$.",
                "204.",
                "The answer is **204**.\n\nI hope it is correct.",
                "Final answer: $204$ minutes",
            ],
            [],
        ),
        ("60", [r"\angle ABC = 60^\circ"], []),
    ],
    "a scale word is part of the number": [
        ("80000000", ["80 million"], []),
        ("2500000", ["2.5 million dollars"], []),
        ("144", ["12 dozen"], []),
    ],
    "two units agree": [
        ("-5", ["-$5", "$-5"], ["$5"]),
        ("5 m", [], ["5 km"]),
        (r"5 \text{ m}", [], ["5 km", r"5 \mathrm{~km}"]),
        ("5 km", ["5 kilometers"], ["5 m"]),
        (r"15\mbox{ cm}^2", ["15 square centimeters", "15 cm²", "15"], ["15 m^2"]),
        (r"\$18.90", ["18.9", "$18.90"], []),
        (r"5.4 \text{ cents}", ["5.4"], ["5.4 dollars"]),
    ],
    "exact numbers are compared exactly": [
        ("2.88e-19", [r"2.88 \cdot 10^{-19}", "2.88×10⁻¹⁹"], ["-2.88e-19", "1e-7"]),
        ("2^{-2023}", [], ["2^{-2024}"]),
        ("2^{100000}", ["4^{50000}"], ["2^{99999}"]),
        (r"2^{-60}\pi", [], [r"2^{-61}\pi"]),
        (r"\frac{x}{2^{60}}", [], [r"\frac{x}{2^{61}}"]),
        (r"0.1\overline{6}", ["1/6"], []),
        (r"0.\overline{142857}", [r"\frac17"], []),
        ("025", ["25"], []),
        ("27.0", ["27"], []),
        ("120", ["5!"], []),
        (r"\frac{3}{4}", ["3 / 4", r"\tfrac34"], []),
        (r"-\frac{3}{4}", [r"\frac{-3}{4}", "−3/4"], []),
        ("4.5e33", ["4.5 x 10^33"], []),
        ("1,234", ["1234"], []),
        (r"\frac{100}{3}\%", [r"33\frac13\%"], []),
    ],
    "a decimal is a rounded number from six digits on": [
        (r"\frac{1}{3}", ["0.333333"], ["0.333334"]),
        (r"\sqrt{2}", ["1.414214", "1.41421356"], ["1.414215"]),
        (r"\pi", [], ["3.14"]),
        ("3.14159", [r"\pi"], []),
    ],
    "containers keep their kind and repetitions": [
        ("16,3,1,1", ["1,3,16,1"], ["16,3,1"]),
        ("(2,4)", [], [r"\{2,4\}"]),
        (r"\{2,4\}", [], ["(2,4)"]),
        ("k=1,2", ["1 and 2"], []),
        (r"1 \pm \sqrt{19}", [r"1+\sqrt{19}, 1-\sqrt{19}", "x = 1 ± √19"], [r"1+\sqrt{19}"]),
        (r"\{1\pm\sqrt{5},-2\}", [r"-2, 1+\sqrt5, 1-\sqrt5"], []),
        ("100,200", ["100, 200", "200 and 100"], []),
        (r"\emptyset", [r"\varnothing", r"\{\}", "∅"], [r"\{0\}"]),
        (r"\mathbb{R}", [r"(-\infty, \infty)"], []),
        (
            r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
            [r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"],
            [r"\begin{bmatrix} 2 \\ 1 \end{bmatrix}"],
        ),
        (r"\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix}", [r"\begin{pmatrix} 0.5 & 0 \\ 0 & 1 \end{pmatrix}"], []),
        ("3:2", ["3 : 2"], ["2:3"]),
        (r"(3, \frac{\pi}{2})", [], ["(3, 90°)"]),
    ],
    "an equation says its last side and the others are equal to it": [
        ("2,3", [r"x_1=3,\ x_2=2", r"x=2 \text{ or } x=3", "(2,3)"], ["[2,3]", "x_1=3, x_2=3"]),
        ("80", ["79+1=80", "x=79+1=80"], ["80 million", "0=80", "80+1=80"]),
        ("x = 1, y = 2", ["(1, 2)", "y = 2, x = 1"], ["x = 2, y = 1"]),
        ("(p,q)=(3,2)", ["(3,2)"], []),
        ("(3,2)", ["(p,q)=(3,2)"], ["(p,q)=(2,3)"]),
        (r"m_{\max}=n^2-n-1", ["n^2-n-1"], ["n^2-n+1"]),
        ("dM/dt=-kM", ["-kM"], []),
        ("x^2+y^2=1", ["y^2+x^2=1", "x^2+y^2-1=0"], ["1"]),
        ("y=2x+3", ["2x-y+3=0", "2x+3"], ["y=2x-3", "x=2y+3"]),
        ("f(x)=x^2-1", ["(x-1)(x+1)"], []),
        ("f(x)=x, f(x)=-x", ["f(x)=-x, f(x)=x", r"f(x) = x \text{ and } f(x) = -x"], ["f(x)=x"]),
        ("1", [], ["x=1 or x=-2"]),
        ("x=1 or x=-2", ["-2, 1"], []),
    ],
    "an inequality in one name is an interval": [
        ("[2,3]", [r"2 \le x \le 3", r"x \in [2,3]"], ["2 < x < 3"]),
        (r"x \in (2,3)", ["2<x<3"], ["2<y<3"]),
        (r"(-\infty,\infty)", [], [r"\{x | x>1, x<3\}"]),
        (r"\{x | x<1 or x>2\}", [r"(-\infty,1)\cup(2,\infty)"], [r"(-\infty,1)\cap(2,\infty)"]),
        (
            r"a \le -1 \text{ or } a \ge 2",
            [r"(-\infty,-1]\cup[2,\infty)", r"a \ge 2 or a \le -1"],
            ["b >= 2 or b <= -1"],
        ),
        (r"a \le b \le c", ["a ≤ b ≤ c", r"c \ge b \ge a"], [r"a \le b < c"]),
        ("-2<x<3", ["3>x>-2"], []),
        ("x>2", [r"(2,\infty)"], []),
        (r"(2,\infty)", ["x>2"], [r"x \geq 2"]),
        (r"(-\infty,1)\cup(3,\infty)", ["x<1 or x>3", r"x<1 \text{ or } x>3", r"(3,+\infty) \cup (-\infty,1)"], []),
    ],
    "times bases residues and infinities": [
        ("9:30", [], ["18:60"]),
        (r"7:15 \text{ a.m.}", ["7:15 AM"], []),
        ("10:45 PM", ["22:45"], ["10:45 am"]),
        ("243_5", [r"243_{\text{five}}", "243 (base 5)"], []),
        (r"x\equiv 3\pmod 5", ["x ≡ 3 (mod 5)", r"3 \pmod{5}"], ["3", r"x \equiv 3 \pmod{7}"]),
        (r"\frac{1}{0}", [], [r"\frac{2}{0}"]),
        (r"\tan 90^\circ", [], ["5"]),
        ("zoo", [], ["5"]),
    ],
    "words are text": [
        (r"\text{Evelyn}", ["The answer is Evelyn.", "**Evelyn**"], ["Not Evelyn"]),
        (r"\text{June 20}", ["June 20"], ["20", "July 20"]),
        (r"\text{(C)}", ["C"], []),
        ("C", ["(C)"], ["c"]),
        (r"n \text{ is even}", [], ["n is odd", "n"]),
        (r"\text{all positive integers } n", [], ["n"]),
        (r"\text{infinitely many}", ["Infinitely many"], []),
        ("3", [], ["three"]),
    ],
    "notation does not matter": [
        (r"I_0 e^{-t/RC}", [r"I_0 \exp(-\frac{t}{RC})"], [r"I_0 \exp(-\frac{t}{Rc})"]),
        (r"x_{0} \cos (\omega t)", ["x_0*cos(omega*t)", "x_0 cos(ωt)"], []),
        ("24abc", ["24 abc", "24acb"], ["24"]),
        ("5m", ["5m+0"], ["5"]),
        ("V_0/R", [], ["V_0/r"]),
        ("y", [], ["y'"]),
        ("e^2", ["exp(2)"], []),
        (r"\frac{\pi}{4}", ["pi/4"], []),
        (r"\log_2 3", ["log_2(3)"], []),
        (r"\arcsin(10/13)", ["np.arcsin(10/13)"], []),
        ("np.arcsin(10/13)", [r"\arcsin\frac{10}{13}", r"\sin^{-1}(10/13)"], []),
        ("6+9i", ["9i + 6"], ["6-9i"]),
        ("2i", ["(1+i)^2"], []),
        ("ab", ["ba"], []),
        (r"\frac{a+b}{2}", ["(a+b)/2"], []),
        ("2^{n+1}-2", ["2(2^n-1)"], []),
        (r"\binom{2n}{n}", [r"\frac{(2n)!}{(n!)^2}"], []),
        (r"\binom{5}{2}", ["10"], []),
        ("10", [r"\binom{5}{2}"], []),
        (r"\frac{\sqrt{6}-\sqrt{2}}{4}", [r"\sin 15^\circ"], []),
        (r"\cos 20^\circ", ["\\sin 70°"], []),
        (r"2\cos\frac{\pi}{7}", ["2cos(pi/7)"], []),
        (r"2+\sqrt[3]{4}", ["2+4^{1/3}"], []),
        (r"11\sqrt2", ["11√2", "11*sqrt(2)", "sqrt(242)"], []),
        ("|x-3|", ["|3-x|"], []),
        (r"\ln 2", ["0.693147"], [r"\log_{10} 2"]),
        (r"\log 2", [r"\log_{10} 2"], []),
        (r"\frac{x^3}{3}+C", ["x^3/3 + C"], ["x^3/3"]),
        (r"\frac{\partial f}{\partial x}", [], ["0"]),
        (r"m \frac{d^2 z}{dt^2}", [r"m \frac{d^2z}{dt^2}", r"\frac{d^2 z}{dt^2} m"], []),
        (r"\frac{\pi}{6}+k\pi, k \in \mathbb{Z}", [], [r"\frac{\pi}{6}+k\pi"]),
        (r"[2k\pi, 2k\pi+\pi](k\in Z)", [r"[2k\pi, 2k\pi+\pi] (k \in Z)"], []),
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, reward: MathReward) -> None:
    assert wrong_verdicts(reward, RULES[rule]) == []


def spellings(value: Fraction) -> Iterator[str]:
    """Ways to write a rational number."""
    sign, (n, d) = "-" if value < 0 else "", abs(value).as_integer_ratio()
    yield from (
        f"{sign}{n}/{d}",
        rf"{sign}\frac{{{n}}}{{{d}}}",
        rf"\frac{{{sign}{3 * n}}}{{{3 * d}}}",
        f"{sign}{n}({d})^{{-1}}",
    )
    if d in (1, 2, 4, 8):
        yield from (f"{sign}{n / d}", f"x = {sign}{n / d}", f"{sign}{n / d}e0", rf"{sign}{100 * n / d}\%")
    if d == 3:
        yield sign + rf"{n // d}.\overline{{{'3' if n % 3 == 1 else '6'}}}"
    if n > d > 1:
        yield from (rf"{sign}{n // d}\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}")


def test_rational_numbers_are_equal_as_fractions_are() -> None:
    values = [Fraction(n, d) for d in (1, 2, 3, 4, 7, 8) for n in range(-9, 10) if n % d or d == 1]
    draw = random.Random(0)
    reward = MathReward()
    for value in draw.sample(values, 25):
        written = [(other, text) for other in {value, -value, *draw.sample(values, 4)} for text in spellings(other)]
        gold = next(spellings(value))
        (found,) = reward.score([group(gold, *(answered(text) for _, text in written))])
        expected = [value == other or (text.endswith("%") and value == 100 * other) for other, text in written]
        assert [outcome.value == 1 for outcome in found] == expected, gold
    assert reward._pool._workers == []


GOLDS = r"""
\left( 3, \frac{\pi}{2} \right)
p - q
\frac{14}{3}
\text{Evelyn}
42
90^\circ
3\sqrt{13}
\sqrt{51}
6 - 5i
\pi
-50
x=5
1,-2
52_8
11\sqrt2
\frac{243}{625}
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}
\begin{pmatrix} 2 & 1 \\ -7 & 3 \end{pmatrix}
[2,5)
(-\infty, 2) \cup (3, \infty)
\text{(C)}
\text{Navin}
5.4 \text{ cents}
15\mbox{ cm}^2
10\%
\$18.90
11,\! 111,\! 111,\! 100
10,\!080
6:30
\text{odd}
2516_8
\text{east}
x^3+3x-6
1 \pm \sqrt{19}
(6,31,-1)
0.\overline{3}
y = 2x+3
\frac{3\sqrt{3}}{4}
12\text{ inches}
\{1\pm\sqrt{5},-2\}
3 \pm 2 \sqrt{2}
2k
(-\infty,\infty)
\text{June 20}
3R^2
(15,-29)
\text{ellipse}
\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]
k=1,2
x \in [-2,7]
\emptyset
\mathbb{R}
3, 5, 7
1.25 \times 10^5
16\frac{2}{3}
46,\!656
4210_{5}
E
\text{No}
8 \text{ inches}
16\sqrt{3}+8\pi
(2,12) \cup (12,102)
-\frac{3}{5} + \frac{4}{5} i
\frac{9}{256}
6r^2-4r-24
\left( \frac{3}{2}, -13 \right)
(3,\infty)
\text{(E)}
\text{Friday}
5x^7y^2
-2+\sqrt{5}
\frac{1}{3}\pi
\frac{\pi}{4}
\dfrac{17}{50}
4\sqrt{2}
y=-\frac{1}{2}x+4
f(x)=x^2-1
a^2+b^2
-\frac{35}{9}
x^2 - 7x + 10
\left(-\frac{1}{2},\frac{3}{2}\right)
18\text{ degrees}
7200\text{ square meters}
\log_2 3
\ln 2
e^2-1
2\ln 2 - 1
\frac{e-1}{2}
\sin 20^\circ
\tan^{-1} 2
\arctan \frac{1}{2}
\frac{\sqrt{6}-\sqrt{2}}{4}
2^{2024}-1
n!
\binom{2n}{n}
\frac{n(n+1)}{2}
\lfloor n/2 \rfloor+1
\left\lceil\frac{2n}{3}\right\rceil
2^{1009}
(2,5),(3,-1)
(1,1), (-1,-1)
\frac{1}{2},-3
y=-2x^2+4
x = 1, y = 2
n=1
f(x)=x, f(x)=-x
n = 2^{k}-1
\left(\frac{1}{2}, \infty\right)
45^{\circ}
\frac{\pi}{3}, \frac{5\pi}{3}
$6$,$-2$
$\frac{\pi}{3}$, $\frac{5\pi}{3}$
\pm \frac{\sqrt{2}}{2}
k \geq 4
-\frac{1}{2}<x<\frac{-1+\log _{10} 4}{2}
\{a \mid a > 2\}
[-9,9]
120^\circ
(p,q)=(3,2)
f(n)=n+1
x^2 + y^2 = 1
m_{\max}=n^2-n-1
0,1,\ldots,n
(0,0), (1,2), (-3,4)
\{2,4\}
\{(1,2),(3,4)\}
a=\frac{1}{2}, b=3
\frac{2^{n}-1}{3}
2\cos\frac{\pi}{7}
1-\frac{1}{n}
\frac{a+b}{2}
\sqrt[3]{2}
2+\sqrt[3]{4}
(n-1)2^{n}+1
\frac{4}{27}
10\sqrt{10}
3+2\sqrt{2}
5+\frac{1}{2}\sqrt{2}
-1./3
4.49e33
2.88e-16
7e-8
np.arcsin(10/13)
dM/dt=-\frac{k}{M}
x_{0} \cos (\omega t)+\frac{v_0}{\omega}\sin(\omega t)
\arcsin{1.3 \sin{\theta_w}}
m \frac{d^2 z}{dt^2}
I(0) e^{-\frac{t}{R C}}
\frac{V_{0}}{R}\left[1-e^{-\frac{R}{L} t}\right]
false
True
0.35
1.6e-19
9.4608e15
2.7778e-9
\frac{m v^{2}}{2}
\sqrt{2gh}
-\frac{GMm}{r}
K_{1}e^{-2t}
6.02 \times 10^{23}
\{-1,2\}
\{x|-1\le x<3\}
(-∞, 2)
[\frac{1}{2}, 1)
36\pi
\{x | x<1 or x>2\}
0.75
60 \mathrm{~km} / \mathrm{h}
\frac{x^2}{4}+\frac{y^2}{3}=1
y=\pm \sqrt{3}x
10\sqrt{3}
\frac{x^{2}}{16}-\frac{y^{2}}{9}=1
(x-1)^2+(y+2)^2=4
x+y-3=0
2x-y+1=0
x \geqslant 2
a<-1
a \le -1 \text{ or } a \ge 2
\{0,1,2\}
(0,+\infty)
(-\infty,-1]\cup[2,+\infty)
\left\{x \mid -2<x<3\right\}
2n-1
a_n=2n-1
a_{n}=2^{n-1}
S_n = n^2
\frac{2\sqrt{5}}{5}
-\frac{\sqrt{3}}{2}
1+i
\frac{1}{2}-\frac{1}{2}i
3:2
1:2:3
\frac{7}{8} \text{ hours}
15^{\circ}
75\%
33\frac{1}{3}\%
66.67\%
\text{Saturday}
\text{Yes}
\text{neither}
\text{infinitely many}
7:15 \text{ a.m.}
10:45 \text{ PM}
x\equiv 3\pmod 5
n \equiv 1, 3 \pmod 8
\begin{cases} x & x \ge 0 \\ -x & x < 0 \end{cases}
\left(\frac{4}{3}, 2\right]
0 < a < b
a \le b \le c
x \ne 0
x \neq 1, 2
\mathbb{R} \setminus \{0\}
\infty
-\infty
\frac{1}{0}
1\frac{1}{2}
2 \frac{3}{4} \text{ cups}
5 km
3.14
22/7
1,000,000
-12
025
27.0
100,200
8!
\frac{10!}{3!}
2^{-2024}
\sqrt{2+\sqrt{3}}
C + x^2
\frac{x^3}{3}+C
e^{x}(x+1)+C
y = C_1 e^{x} + C_2 e^{-x}
\langle 1, 2, 3\rangle
\overrightarrow{AB}
\vec{a}+\vec{b}
\triangle ABC
AB
24abc
xyz
(x-2)(x+3)
3(x+2)^2
x^{2}-2x+1
|x-3|
|z|=2
\max(a,b)
\gcd(m,n)
\frac{\partial f}{\partial x}
\int_0^1 x^2 dx
\sum_{k=1}^{n} k^2
\prod_{i=1}^{n} i
\lim_{x\to 0} \frac{\sin x}{x}
P(X=1)=\frac{1}{2}
\angle ABC = 60^\circ
S_{\triangle ABC} = 2\sqrt{3}
2.5 \text{ m/s}^2
9.8 \mathrm{~m} / \mathrm{s}^{2}
\text{Any } a > 0
\text{all positive integers } n
n \text{ is even}
1 \text{ and } 3
2 or 3
x=1 or x=-2
\frac{1}{2}\left(1+\sqrt{5}\right)
\sqrt{x^2+1}
\log_{3} (x+1)
10^{100}
0.000012
(a, b, c) = (1, 2, 3), (3, 2, 1)
\left\{\frac{1}{2}, 2\right\}
\left\{0, \frac{\pi}{2}\right\}
\frac{\pi}{6}+k\pi, k \in \mathbb{Z}
k\pi - \frac{\pi}{12} (k \in Z)
[2k\pi, 2k\pi+\pi](k\in Z)
""".strip().split("\n")
WRAPPINGS = [
    "{}", "${}$", r"\boxed{{{}}}", r"$\boxed{{{}}}$", "The answer is {}.", "**{}**", r"\[ {} \]", r"\({}\)",
    r"The final answer is: $\boxed{{{}}}$.", "Answer: {}", r"So the answer is \({}\).", "#### {}",
]  # fmt: skip


def test_a_gold_earns_1_in_every_wrapping(reward: MathReward) -> None:
    rows: list[Row] = []
    for gold in GOLDS:
        bare = re.sub(r"(?<!\\)\$", "", gold)
        rows.append((gold, [wrapping.format(bare if "$" in wrapping else gold) for wrapping in WRAPPINGS], []))
    assert wrong_verdicts(reward, rows) == []


def changed(gold: str) -> list[str]:
    """A gold with its first number one larger, with its last part left out, with its first sign turned."""
    answers = [re.sub(r"\d+", lambda number: str(int(number[0]) + 1), gold, count=1)]
    answers += [gold[: gold.rindex(",")]] if "," in gold else []
    answers += [gold.replace("+", "-", 1), gold.replace("<", ">", 1), gold.replace("[", "(", 1)]
    return [answer for answer in dict.fromkeys(answers) if answer != gold]


def test_a_changed_gold_earns_nothing(reward: MathReward) -> None:
    slow = ("\\sum", "\\prod", "\\lim", "\\int")
    rows: list[Row] = [(gold, [], changed(gold)) for gold in GOLDS if not any(part in gold for part in slow)]
    assert wrong_verdicts(reward, rows) == []
