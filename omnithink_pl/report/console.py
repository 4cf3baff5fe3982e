"""Tables for the console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from omnithink_pl.curriculum.score_matrix import (
    Change,
    ScoreMatrix,
    TaskScore,
    difference,
    forgetting,
    mean,
    mean_scores,
)
from omnithink_pl.data.demonstrations import COUNTED
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.model.budget import Machine, Settings
from omnithink_pl.types import Outcome, Score, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnithink_pl.evaluation.completions import Record
    from omnithink_pl.evaluation.scorer import Interval
    from omnithink_pl.evaluation.suite_scores import DomainScore, SuiteScore
    from omnithink_pl.sources.curation import Report
    from omnithink_pl.verbs import Prepared


TITLE = "Score in percent, sampled at temperature 1"
UNMEASURED = "-"
LEGEND = """\
▲ ▼ change since the base beyond its 95 % interval, △ ▽ within it
forgotten: base - last row, in points; below 0 is learned"""
GAPS = "- not measured: too much could not be scored, so there is no mean either"


def score_table(matrix: ScoreMatrix) -> Table:
    """Scores at temperature 1 in percent, each with an arrow for its change since the base.

    Args:
        matrix: At least row 0.

    Returns:
        One row per row of the matrix; a column per task and one for the mean; below them what was forgotten.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in (*matrix.tasks, "mean"):
        table.add_column(name, justify="right")
    means = mean_scores(matrix)
    for index, (label, row) in enumerate(zip(matrix.labels, matrix.rows, strict=True)):
        cells = [_cell(matrix.rows[0][task], row[task], index) for task in matrix.tasks]
        table.add_row(row_name(label), *cells, _mean_cell(means, index))
    lost = forgetting(matrix)
    if lost:
        table.add_section()
        table.add_row("forgotten", *[f"{_points(value)}  " for value in lost.values()], _points(mean(lost)) + " " * 5)
    return table


def legend(matrix: ScoreMatrix) -> str:
    """What the signs in the table of a matrix mean."""
    whole = all(score.measured for row in matrix.rows for score in row.values())
    return LEGEND if whole else f"{LEGEND}\n{GAPS}"


def evaluation_line(matrix: ScoreMatrix) -> str:
    """The last row in one line: ``after code: code 71 (+40)  math 40 (-2)  mean 43 (+9)``."""
    means, base, last = mean_scores(matrix), matrix.rows[0], matrix.rows[-1]
    pairs = [(task, base[task].sampled, last[task].sampled) for task in matrix.tasks]
    parts = [
        f"{name} {percent(now)}"
        + (f" ({_points(now - before)})" if len(matrix.rows) > 1 and not isnan(now - before) else "")
        for name, before, now in [*pairs, ("mean", means[0], means[-1])]
    ]
    return f"{row_name(matrix.labels[-1])}: " + "  ".join(parts)


def row_name(label: str) -> str:
    """``after code`` for the label ``1 code``."""
    number, _, stage = label.partition(" ")
    return f"after {stage}" if number.isdigit() else label


def _cell(base: TaskScore, score: TaskScore, index: int) -> Text:
    if index == 0:
        return Text(f"{percent(score.sampled)}  ")
    arrow, style = _arrow(difference(base, score))
    return Text.assemble(f"{percent(score.sampled)} ", (arrow, style))


def _mean_cell(means: list[float], index: int) -> Text:
    change = f" {_points(means[index] - means[0]):>4}" if index else " " * 5
    return Text(percent(means[index]) + change, style="bold")


def _arrow(change: Change) -> tuple[str, str]:
    if change.value == 0 or isnan(change.value):
        return " ", ""
    if change.low <= 0 <= change.high:
        return ("△" if change.value > 0 else "▽"), "dim"
    return ("▲", "bold green") if change.value > 0 else ("▼", "bold red")


def percent(value: float) -> str:
    """A score in percent, or the sign for one that was not measured."""
    return UNMEASURED if isnan(value) else f"{100 * value:.0f}"


def _points(value: float) -> str:
    if isnan(value):
        return UNMEASURED
    points = round(100 * value)
    return f"{points:+d}" if points else "0"


_REASONS_SHOWN = 48
_OWN = "own reward"


def reward_table(groups: Sequence[ScoredGroup]) -> Table:
    """A line per completion: the task's own reward first, then the other components, then the total."""
    rows = [(group, i) for group in groups for i in range(len(group.scores))]
    others = list(dict.fromkeys(name for group, i in rows for name in list(_named(group.scores[i]))[1:]))
    table = Table("#", "task", "uid", "completion", _OWN, *others, "total")
    for number, (group, i) in enumerate(rows, 1):
        score = group.scores[i]
        named = _named(score)
        cells = [_reward_cell(score.primary), *(_reward_cell(named[name]) if name in named else "" for name in others)]
        total = str(score.state) if score.total is None else f"{score.total:g}"
        words = [group.task, _end(group.group.example.uid, 20), _end(group.group.completions[i].text, _REASONS_SHOWN)]
        # As text, not as rich's markup: completions may hold brackets.
        table.add_row(*map(Text, [str(number), *words, *cells, total]))
    return table


def reward_summary(groups: Sequence[ScoredGroup]) -> Table:
    """A line per task and component: mean of the values, how many there are, and how many have none."""
    table = Table("task", "reward", "mean", "values", "undefined", "failed")
    for task in dict.fromkeys(group.task for group in groups):
        scores = [_named(score) for group in groups if group.task == task for score in group.scores]
        for name in scores[0]:
            outcomes = [named[name] for named in scores]
            values = [outcome.value for outcome in outcomes if outcome.value is not None]
            states = [outcome.state for outcome in outcomes]
            mean = f"{fmean(values):.3f}" if values else ""
            counts = [len(values), states.count(State.UNDEFINED), states.count(State.FAILED)]
            table.add_row(task, name, mean, *map(str, counts))
    return table


def _named(score: Score) -> dict[str, Outcome]:
    return {component.name: component.outcome for component in score.components}


def _reward_cell(outcome: Outcome) -> str:
    return f"{outcome.value:g}" if outcome.value is not None else f"{outcome.state}: {outcome.reason}"


def _end(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"…{line[1 - longest :]}"


def benchmark_table(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> Table:
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


def problems(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> list[str]:
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


GIB = 2**30
NOTES = {
    "weights": "the policy, with its adapters",
    "gradients": "of what is trained, float32",
    "optimiser": "its state",
    "reference": "a second model; none where every beta is 0, nor with adapters",
    "gathered": "of a sharded model: two layers and the embeddings; all of it while it samples itself",
    "activations": "of one micro-batch, kept for the backward pass",
    "logits": "of a micro-batch, or of the chunk of it that is alive",
    "engine": "its own copy of the weights",
    "cache": "keys and values of the rollouts",
}


def memory_table(parts: Mapping[str, float], machine: Machine) -> Table:
    """GiB on each GPU, by part, with the sum and what is left.

    Args:
        parts: Bytes, from ``omnithink_pl.model.budget.memory``.
        machine: One GPU.
    """
    table = Table("part", "GiB", "what it is", title="Memory of each GPU", title_justify="left", box=None)
    table.columns[1].justify = "right"
    for name, size in parts.items():
        table.add_row(name, f"{size / GIB:.2f}", NOTES[name])
    total = sum(parts.values()) / GIB
    table.add_section()
    verdict = "fits" if total <= 0.9 * machine.memory_gib else "does not fit with a tenth to spare"
    table.add_row("all", f"{total:.2f}", f"{verdict}, of {machine.memory_gib:g}")
    return table


def speed_table(phases: Mapping[str, float], settings: Settings) -> Table:
    """Seconds of a step, and tokens per second on all GPUs together.

    Args:
        phases: Seconds, from ``omnithink_pl.model.budget.seconds``.
        settings: Of the run.
    """
    table = Table("phase", "seconds", title="A step at best", title_justify="left", box=None)
    table.columns[1].justify = "right"
    for name, duration in phases.items():
        table.add_row(name, f"{duration:.3g}")
    tokens = settings.prompts * settings.group_size * settings.tokens
    table.add_section()
    table.add_row("tokens per second", f"{tokens / sum(phases.values()):,.0f}")
    return table


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


def score_markdown(matrix: ScoreMatrix) -> str:
    """Scores at temperature 1 in percent with their 95 % intervals, and what was forgotten.

    Args:
        matrix: At least row 0.
    """
    tasks = matrix.tasks
    lines = ["Score in percent, sampled at temperature 1 (95 % interval)", ""]
    lines += [_line(["", *tasks, "mean"]), _line(["---", *["---:"] * (len(tasks) + 1)])]
    for label, row, average in zip(matrix.labels, matrix.rows, mean_scores(matrix), strict=True):
        lines.append(_line([row_name(label), *[_markdown_cell(row[task]) for task in tasks], _number(average)]))
    lost = forgetting(matrix)
    if lost:
        points = [_number(value, "+") for value in (*lost.values(), mean(lost))]
        lines.append(_line(["forgotten (base - last)", *points]))
    return "\n".join(lines)


def _number(value: float, sign: str = "") -> str:
    return UNMEASURED if isnan(value) else f"{100 * value:{sign}.1f}"


def _markdown_cell(score: TaskScore) -> str:
    if isnan(score.sampled):
        return UNMEASURED
    return f"{100 * score.sampled:.1f} ({100 * score.sampled_low:.0f} to {100 * score.sampled_high:.0f})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
