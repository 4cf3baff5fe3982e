"""Rows as HumanEval has them: the canonical solution passes, and one that a mutation broke does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests

PROMPT = 'from typing import List\n\n\ndef {name}({args}):\n    """ {text}\n    >>> {name}(...)\n    """\n'
METADATA = "\n\nMETADATA = {\n    'author': 'us',\n    'dataset': 'test'\n}\n\n\ndef check(candidate):\n"
ROWS = {
    "mean": (
        "xs: List[float]",
        "    return sum(xs) / len(xs)\n",
        "    assert abs(candidate([1.0, 2.0]) - 1.5) < 1e-6\n",
    ),
    "gcd": (
        "a: int, b: int",
        "    while b:\n        a, b = b, a % b\n    return a\n",
        "    assert candidate(25, 15) == 5\n    assert candidate(3, 7) == 1\n",
    ),
    "split_groups": (
        "text: str",
        "    found, depth = [''], 0\n    for c in text.replace(' ', ''):\n        depth += 1 if c == '(' else -1\n"
        "        found[-1] += c\n        if depth == 0:\n            found.append('')\n    return found[:-1]\n",
        "    assert candidate('( ) (( ))') == [\n        '()', '(())'\n    ]\n    assert candidate('') == []\n",
    ),
    "count_up_to": (
        "n: int",
        "    for i in range(n):\n        yield i\n",
        "    import random\n    for _ in range(20):\n        n = random.randint(0, 9)\n"
        "        assert list(candidate(n)) == list(range(n)), 'random'\n",
    ),
    "rolling_max": (
        "xs: List[int]",
        "    best, result = None, []\n    for x in xs:\n        best = x if best is None else max(best, x)\n"
        "        result.append(best)\n    return result\n",
        "    assert candidate([]) == []\n    assert candidate([3, 2, 3, 100, 3]) == [3, 3, 3, 100, 100]\n",
    ),
}
MUTATIONS = {
    "mean": ("/", "*"),
    "gcd": ("a % b", "a // b"),
    "split_groups": ("depth == 0", "depth == 1"),
    "count_up_to": ("yield i", "yield i + 1"),
    "rolling_max": ("max", "min"),
}


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[HardenedSandbox]:
    sandbox = HardenedSandbox(workers=1, tier=request.param)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("name", ROWS)
def test_canonical_solutions_pass_and_broken_ones_do_not(sandbox: HardenedSandbox, name: str) -> None:
    args, body, asserts = ROWS[name]
    prompt = PROMPT.format(name=name, args=args, text="Do as the name says.")
    tests = UnitTests(functional=f"{METADATA}{asserts}\n\ncheck({name})\n", entry_point=name)
    right, broken = sandbox.run(prompt + body, tests), sandbox.run(prompt + body.replace(*MUTATIONS[name]), tests)
    assert right.passed, right
    assert not broken.passed
