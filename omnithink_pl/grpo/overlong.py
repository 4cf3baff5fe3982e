"""Completions that are cut off at the longest length, or come near it: DAPO's overlong reward shaping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnithink_pl.errors import BadInput
from omnithink_pl.types import Group


@dataclass(frozen=True)
class Overlong:
    """Overlong filtering and soft overlong punishment (Yu et al. 2025, DAPO, arXiv 2503.14476, section 3.4).

    The punishment of a completion y is added to its summed reward (equation 13):

        0                             where |y| <= L_max - L_cache
        (L_max - L_cache - |y|) / L_cache     where L_max - L_cache < |y| <= L_max
        -1                            where L_max < |y|

    It is part of advantages alone: neither the logged rewards nor evaluations have it.

    Args:
        filter: Leave truncated completions out of the loss: how an answer that was cut off would have been rewarded
            is not known. Their totals stay in the mean and the standard deviation of their group, so that the
            advantages of their siblings are those without the filter; means of the loss are taken over the others.
        cache: L_cache, the tokens before L_max in which the punishment grows from 0 to -1; null: no punishment.
        max_length: L_max; ``model.sampling.max_tokens`` if null.
    """

    filter: bool = False
    cache: int | None = None
    max_length: int | None = None

    def check(self, max_tokens: int) -> None:
        """Refuse lengths that are out of range, given the longest completion that can be sampled."""
        longest = max_tokens if self.max_length is None else self.max_length
        if not 0 < longest <= max_tokens:
            raise BadInput(
                f"model.overlong.max_length is {longest}; use 1 to model.sampling.max_tokens={max_tokens}, or null"
            )
        if self.cache is not None and not 0 < self.cache <= longest:
            raise BadInput(f"model.overlong.cache is {self.cache}; use 1 to the longest completion, {longest}, or null")

    def penalties(self, group: Group, max_tokens: int) -> tuple[float, ...]:
        """Return the punishment of each completion, in [-1, 0]; nothing where there is none to be had."""
        if self.cache is None:
            return ()
        longest = max_tokens if self.max_length is None else self.max_length
        unpunished = longest - self.cache
        lengths = [len(completion.token_ids) for completion in group.completions]
        return tuple(max(-1.0, min(0.0, (unpunished - length) / self.cache)) for length in lengths)

    def mask(self, group: Group, advantages: Sequence[float | None]) -> tuple[float | None, ...]:
        """Return the advantages, ``None`` for what the filter leaves out of the loss."""
        if not self.filter:
            return tuple(advantages)
        cut = [completion.finish_reason == "length" for completion in group.completions]
        return tuple(None if left_out else value for left_out, value in zip(cut, advantages, strict=True))
