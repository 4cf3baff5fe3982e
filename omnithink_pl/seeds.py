"""Seeds derived from seeds, so that nothing random depends on what ran before it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits that is a function of its parts and looks unrelated for related parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_seeds(keys: Iterable[str], *parts: int | str) -> list[int]:
    """A seed for each key that depends neither on the keys beside it nor on its place among them.

    So an example is answered the same whatever else is sampled in that step, and whichever process samples it. A key
    that occurs again gets another seed, so that its second group is not the first once more.

    Args:
        keys: What the seeds are for, such as ``Example.key``.
        *parts: What they derive from besides, such as the run's seed and the step.
    """
    met: Counter[str] = Counter()
    seeds = []
    for key in keys:
        seeds.append(derive_seed(*parts, key, met[key]))
        met[key] += 1
    return seeds
