"""Cases too large to write out."""

from __future__ import annotations

from omnithink_pl.sandbox import RunOutcome
from tests.sandbox.programs.case import script

_NUMBERS = "\n".join(map(str, range(50_000)))
_PRIME = 10**9 + 7
_SQUARE = pow(pow(10, 5000, _PRIME) - 1, 2, _PRIME)

LARGE_HONEST = [
    script("prints much", "print('\\n'.join(map(str, range(50000))))", "", _NUMBERS),
    script("prints more than is usual", "print('x' * 3000000)", "", "x" * 3_000_000),
    script("reads much", "print(len(input().split()))", "7 " * 500_000 + "\n", "500000"),
    script("reads very much", "print(len(input()))", "7" * 9_000_000, "9000000"),
    script(
        "big integers",
        "n = int(input())\nprint(n * n % (10 ** 9 + 7), len(str(3 ** 20000)))",
        "9" * 5000 + "\n",
        f"{_SQUARE} 9543",
    ),
]
LARGE_LOADS = [
    script(
        "long in the parser",
        f"y = [{'x,' * 200_000}]\nwhile 1: 0",
        "",
        "held",
        RunOutcome.EXCEPTION,
        RunOutcome.TIMEOUT,
    ),
    script("deep in the parser", "x = " + "-" * 100_000 + "1", "", "held", RunOutcome.EXCEPTION, RunOutcome.MEMORY),
    script("loops after a long line", "#" * 2_000_000 + "\nwhile 1: 0", "", "held", RunOutcome.TIMEOUT),
]
