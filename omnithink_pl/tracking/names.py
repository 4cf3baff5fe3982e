"""Metric names as MLflow accepts them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_/. -]+")


def metric_name(name: str) -> str:
    """A name of letters, digits and ``_/. -``.

    Simply deleting other characters, as Lightning does, turns ``pass@1`` and ``pass1`` into the same
    metric; here ``@`` is written ``_at_`` and anything else ``_``.
    """
    return _FORBIDDEN.sub("_", name.replace("@", "_at_"))


def check_distinct(names: Iterable[str]) -> None:
    """Refuse two metrics that would be stored under one name.

    Raises:
        ValueError: Names both.
    """
    stored: dict[str, str] = {}
    for name in names:
        other = stored.setdefault(metric_name(name), name)
        if other != name:
            raise ValueError(
                f"metrics {other!r} and {name!r} would both be stored as {metric_name(name)!r}; rename one"
            )
