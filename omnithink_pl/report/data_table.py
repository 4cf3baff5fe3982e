"""What became of the rows of the training sets, in the terminal and as a table for MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from omnithink_pl.data.preparation import Prepared
    from omnithink_pl.sources.curation import Report

_CATEGORIES, _SHOWN = 6, 100


def data_table(prepared: Sequence[Prepared]) -> Table:
    """A line per task: rows, tokens of the prompts, categories."""
    table = Table("task", "train", "held out", "tokens", "mean", "max", "categories")
    for found in prepared:
        lengths = found.train or (0,)
        mean = f"{sum(lengths) / len(lengths):.0f}"
        counts = [str(len(found.train)), str(len(found.test)), str(sum(lengths)), mean, str(max(lengths))]
        table.add_row(found.task, *counts, Text(_categories(found.report)))
    return table


def filter_table(task: str, report: Report) -> Table:
    """A line per filter: rows before it, dropped, after it, and why the first ones were dropped."""
    table = Table("split", "filter", "before", "dropped", "after", "such as", title=f"{task}: {report.source}")
    for step in report.steps:
        before, after = step["before"], step["after"]
        names = [gone for gone in report.dropped if (gone["split"], gone["filter"]) == (step["split"], step["filter"])]
        shown = f"row {names[0]['row']}: {names[0]['why']}" if names else ""
        cells = [step["split"], step["filter"], str(before), str(before - after), str(after), shown[:_SHOWN]]
        table.add_row(*map(Text, cells))
    return table


def filter_columns(reports: Mapping[str, Report]) -> dict[str, list[Any]]:
    """The filters of all tasks as columns."""
    rows = [(task, step) for task, report in reports.items() for step in report.steps]
    columns: dict[str, list[Any]] = {"task": [task for task, _ in rows]}
    for name in ("split", "filter", "before", "after"):
        columns[name] = [step[name] for _, step in rows]
    return columns


def _categories(report: Report | None) -> str:
    if report is None or len(report.categories) < 2:
        return ""
    shown = [f"{name} {count}" for name, count in list(report.categories.items())[:_CATEGORIES]]
    return ", ".join(shown) + (", …" if len(report.categories) > _CATEGORIES else "")
