"""Benchmark scores in the terminal, and how far a benchmark has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnithink_pl.evaluation.benchmark_score import BenchmarkScore, DomainScore
    from omnithink_pl.evaluation.intervals import Interval
    from omnithink_pl.evaluation.journal import Record


def benchmark_table(scores: Sequence[BenchmarkScore], domains: Sequence[DomainScore]) -> Table:
    """A line per benchmark and per category, then one per domain; scores in percent with 95 % intervals."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("benchmark", "metric", "score", "95 %", "prompts", "no answer", "failed", "s"):
        table.add_column(column, no_wrap=True)
    for one in scores:
        counts = [f"{one.prompts} × {one.samples}", f"{one.undefined:.1%}", f"{one.failed:.1%}", f"{one.seconds:.0f}"]
        table.add_row(*map(Text, [one.name, one.metric, *_percent(one.score), *(counts if one.prompts else [])]))
        for name, figure in {**one.figures, **one.categories}.items():
            table.add_row(*map(Text, [f"  {name}", "", *_percent(figure)]))
    table.add_section()
    for domain in domains:
        what = "" if len(domain.benchmarks) == 1 else f"mean of {len(domain.benchmarks)}"
        table.add_row(*map(Text, [f"= {domain.name}", what, *_percent(domain.score)]))
    return table


def problems(scores: Sequence[BenchmarkScore], domains: Sequence[DomainScore]) -> list[str]:
    """Why benchmarks and domains have no score, a line each."""
    lines = [f"{one.name} has no score: {one.problem}" for one in scores if one.score is None]
    return lines + [f"{one.name} has no domain score: {one.problem}" for one in domains if one.score is None]


@contextmanager
def benchmark_progress(console: Console) -> Iterator[Callable[[str, int, int, Sequence[Record]], None]]:
    """A bar per benchmark, with the mean verdict so far; gives the function to call when a chunk is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[mean]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def tell(name: str, done: int, total: int, records: Sequence[Record]) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, mean="")
            values = [record.value or 0.0 for record in records if record.state != "failed"]
            mean = f"{sum(values) / len(values):.1%} so far" if values else ""
            progress.update(bars[name], completed=done, mean=mean)

        yield tell


def _percent(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "none", ""
    return f"{100 * interval.mean:.2f}", f"{100 * interval.low:.1f} - {100 * interval.high:.1f}"
