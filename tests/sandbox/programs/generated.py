"""Cases too large to write out, and rows as HumanEval has them: canonical solutions, also broken by a mutation."""

from __future__ import annotations

from omnithink_pl.sandbox import RunOutcome
from omnithink_pl.types import UnitTests
from tests.sandbox.programs.case import Case, script

EXCEPTION, MEMORY, TIMEOUT = RunOutcome.EXCEPTION, RunOutcome.MEMORY, RunOutcome.TIMEOUT
_NUMBERS = "\n".join(map(str, range(50_000)))
_POWERS = "n = int(input())\nprint(n * n % (10 ** 9 + 7), len(str(3 ** 20000)))"
_SQUARE = pow(pow(10, 5000, 10**9 + 7) - 1, 2, 10**9 + 7)

LARGE_HONEST = [
    script("prints much", "print('\\n'.join(map(str, range(50000))))", "", _NUMBERS),
    script("prints more than is usual", "print('x' * 3000000)", "", "x" * 3_000_000),
    script("reads much", "print(len(input().split()))", "7 " * 500_000 + "\n", "500000"),
    script("reads very much", "print(len(input()))", "7" * 9_000_000, "9000000"),
    script("big integers", _POWERS, "9" * 5000 + "\n", f"{_SQUARE} 9543"),
]
LARGE_LOADS = [
    script("long in the parser", f"y = [{'x,' * 200_000}]\nwhile 1: 0", "", "held", EXCEPTION, TIMEOUT),
    script("deep in the parser", "x = " + "-" * 100_000 + "1", "", "held", EXCEPTION, MEMORY),
    script("loops after a long line", "#" * 2_000_000 + "\nwhile 1: 0", "", "held", TIMEOUT),
]

_PROMPT = 'from typing import List\n\n\ndef {name}({args}):\n    """Do it.\n    >>> {name}(...)\n    """\n'
_METADATA = "\n\nMETADATA = {\n    'author': 'us',\n    'dataset': 'test'\n}\n\n\ndef check(candidate):\n"
# Name, arguments, body, asserts, and the mutation.
_ROWS = [
    (
        "mean",
        "xs: List[float]",
        "    return sum(xs) / len(xs)\n",
        "    assert abs(candidate([1.0, 2.0]) - 1.5) < 1e-6\n",
        ("/", "*"),
    ),
    (
        "gcd",
        "a: int, b: int",
        "    while b:\n        a, b = b, a % b\n    return a\n",
        "    assert candidate(25, 15) == 5\n    assert candidate(3, 7) == 1\n",
        ("a % b", "a // b"),
    ),
    (
        "split_groups",
        "text: str",
        "    found, depth = [''], 0\n    for c in text.replace(' ', ''):\n        depth += 1 if c == '(' else -1\n"
        "        found[-1] += c\n        if depth == 0:\n            found.append('')\n    return found[:-1]\n",
        "    assert candidate('( ) (( ))') == [\n        '()', '(())'\n    ]\n    assert candidate('') == []\n",
        ("depth == 0", "depth == 1"),
    ),
    (
        "count_up_to",
        "n: int",
        "    for i in range(n):\n        yield i\n",
        "    import random\n    for _ in range(20):\n        n = random.randint(0, 9)\n"
        "        assert list(candidate(n)) == list(range(n)), 'random'\n",
        ("yield i", "yield i + 1"),
    ),
    (
        "rolling_max",
        "xs: List[int]",
        "    best, result = None, []\n    for x in xs:\n        best = x if best is None else max(best, x)\n"
        "        result.append(best)\n    return result\n",
        "    assert candidate([]) == []\n    assert candidate([3, 2, 3, 100, 3]) == [3, 3, 3, 100, 100]\n",
        ("max", "min"),
    ),
]


def _case(name: str, args: str, body: str, asserts: str, broken: bool) -> Case:
    tests = UnitTests(functional=f"{_METADATA}{asserts}\n\ncheck({name})\n", entry_point=name)
    wanted = RunOutcome.WRONG_ANSWER if broken else RunOutcome.PASSED
    program = _PROMPT.format(name=name, args=args) + body
    return Case(f"HumanEval {name}{', broken' if broken else ''}", program, tests, (wanted,))


CANONICAL = [_case(*row, broken=False) for *row, _ in _ROWS]
BROKEN = [_case(name, args, body.replace(*change), asserts, True) for name, args, body, asserts, change in _ROWS]
