"""Each law that the architecture page states has a test that is named after it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "architecture.md").read_text()


def test_every_law_on_the_page_has_a_test_named_after_it() -> None:
    laws = {int(number) for number in re.findall(r"^(\d+)\. ", PAGE.partition("## Laws")[2], re.MULTILINE)}
    named = {
        int(n) for path in TESTS.rglob("test_*.py") for n in re.findall(r"^def test_law_(\d+)_", path.read_text(), re.M)
    }
    assert laws == named == set(range(1, max(laws) + 1))
