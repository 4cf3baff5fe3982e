"""Small programs with their tests, and sandboxes to run them in."""

from __future__ import annotations

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.sandbox.tiers import Plan, Tier
from omnithink_pl.types import UnitTests

ADD = UnitTests(inputs=("1 2\n", "3 4\n"), outputs=("3", "7"))
SUM = UnitTests(functional="def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\ncheck(Solution().total)")
PRINT_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
SOLUTION = "class Solution:\n    def total(self, xs: List[int]) -> int:\n        return sum(xs)\n"
SLEEP = "import time\ntime.sleep(1000)"


def boxes(sandbox: HardenedSandbox) -> list[int]:
    found = [box for pair in sandbox._pairs for box in (pair._program, pair._judge) if box is not None]
    return [box._process.pid for box in found]


def unsealed(workers: int = 1) -> HardenedSandbox:
    sandbox = HardenedSandbox(workers=workers)
    sandbox._plan = Plan(Tier.UNSAFE)
    return sandbox
