"""A judge that goes by length."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.judge import Comparison, JudgeUnavailable, Preference


class LongerWins:
    """Prefers the longer text; a tie where both are as long."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        return [_preference(len(c.candidate) - len(c.reference)) for c in comparisons]

    def close(self) -> None:
        """Nothing to release."""


def _preference(lead: int) -> Preference:
    return Preference.TIE if lead == 0 else Preference.WIN if lead > 0 else Preference.LOSS
