"""What became of the completions that rejection sampling drew, as a table for the console."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from omnithink_pl.data.selection import COUNTED


def demonstration_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """One row per count, one column per task.

    Args:
        counts: For each task, the counts of ``Selection``.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", min_width=11)
    for task in counts:
        table.add_column(task, justify="right", min_width=8)
    for name in COUNTED:
        table.add_row(name, *(str(count.get(name, 0)) for count in counts.values()))
    return table
