"""Seeds derived from other seeds, so that no random draw depends on earlier ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that is a function of its parts, unrelated for related parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_seeds(keys: Iterable[str], *parts: int | str) -> list[int]:
    """Return a seed for each key that depends neither on the other keys nor on its place among them.

    So an example gets the same completions whatever else is sampled in that step, and whichever process samples it. A
    repeated key gets another seed each time, so that its groups differ.

    Args:
        keys: What the seeds are for, such as ``Example.key``.
        *parts: What they also derive from, such as the run's seed and the step.
    """
    counts: Counter[str] = Counter()
    seeds = []
    for key in keys:
        seeds.append(derive_seed(*parts, key, counts[key]))
        counts[key] += 1
    return seeds
