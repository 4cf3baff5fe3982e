"""Seeds derived from seeds, so that nothing random depends on what ran before it."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits that is a function of its parts and looks unrelated for related parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
