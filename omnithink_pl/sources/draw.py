"""Drawing rows from a data set, as a function of the seed and the rows alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

from omnithink_pl.sources.curation import Candidate, Track

CHECKED_AT_ONCE = 256
HELD_OUT_SHARE = 5

Check = Callable[[Sequence[Candidate]], Sequence[str | None]]
Refused = list[tuple[Candidate, str]]


def draw(
    candidates: Sequence[Candidate], count: int, seed: int, proportional: bool, check: Check, track: Track
) -> tuple[list[Candidate], Refused]:
    """Draw rows, checking no more of them than needed, for a check may be slow.

    Args:
        candidates: To draw from.
        count: How many; all, if there are fewer.
        seed: Of the draw.
        proportional: Each category keeps its share.
        check: Says for each row why it cannot be used; ``None`` where it can.
        track: Shows progress.

    Returns:
        The rows drawn, in the order of the data set, and those that the check refused on the way.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: rank(seed, candidate.uid)):
        groups.setdefault(candidate.category if proportional else "", []).append(candidate)
    quotas = shares({name: len(group) for name, group in groups.items()}, count)
    kept: list[Candidate] = []
    refused: Refused = []
    for name, group in groups.items():
        good, bad = _first_usable(group, quotas[name], check, track)
        kept, refused = kept + good, refused + bad
    return sorted(kept, key=lambda candidate: candidate.index), refused


def _first_usable(
    group: Sequence[Candidate], count: int, check: Check, track: Track
) -> tuple[list[Candidate], Refused]:
    good: list[Candidate] = []
    bad: Refused = []
    for start in track(range(0, len(group), CHECKED_AT_ONCE), "checking references"):
        if len(good) >= count:
            break
        chunk = group[start : start + CHECKED_AT_ONCE]
        for candidate, why in zip(chunk, check(chunk), strict=True):
            if why is None:
                good.append(candidate)
            else:
                bad.append((candidate, why))
    return good[:count], bad


def held_out(candidates: Sequence[Candidate], count: int, seed: int, proportional: bool) -> set[str]:
    """Which rows are held out: at most ``count`` of them, and at most a fifth."""
    count = min(count, len(candidates) // HELD_OUT_SHARE)
    chosen, _ = draw(candidates, count, seed, proportional, all_usable, lambda items, _: items)
    return {candidate.uid for candidate in chosen}


def all_usable(candidates: Sequence[Candidate]) -> list[str | None]:
    """The check of references that need none."""
    return [None] * len(candidates)


def rank(seed: int, uid: str) -> bytes:
    """Where a row stands in a draw: a function of seed and row alone, so that other rows do not matter."""
    return blake2b(f"{seed}:{uid}".encode(), digest_size=8).digest()


def shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide ``count`` in proportion to sizes, by largest remainder; never more than there is."""
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    exact = {name: count * size / total for name, size in sizes.items()}
    whole = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def by_category(candidates: Iterable[Candidate]) -> dict[str, int]:
    """How many rows there are of each category, most frequent first."""
    return dict(Counter(candidate.category for candidate in candidates).most_common())
