"""Tables for the console, and the Markdown table that describes a run in MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, difference, forgetting, mean, mean_scores
from omnithink_pl.data.demonstrations import COUNTED
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.model.budget import Machine, Settings
from omnithink_pl.report.output import markdown_table, percent, points, row_name, with_interval
from omnithink_pl.types import Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.evaluation.completions import Record
    from omnithink_pl.evaluation.evaluator import Sample
    from omnithink_pl.evaluation.scorer import Interval
    from omnithink_pl.evaluation.suite_scores import DomainScore, SuiteScore
    from omnithink_pl.sources.curation import Report

TITLE = "Score in percent, sampled at temperature 1"
LEGEND = """\
▲ gained, ▼ lost since the base; △ ▽ within the 95 % interval of the change
forgotten = base - last row in points, the paper's sign: above 0 is forgotten"""
GAPS = "- not measured: too much could not be scored, so there is no mean either"
_COMPLETION, _UID, _REASON = 48, 20, 100  # shown of each: characters, entries
_GIB = 2**30
_MEMORY_NOTES = {
    "weights": "the policy, with its adapters",
    "gradients": "of what is trained, float32",
    "optimiser": "its state",
    "reference": "a second model; none where every beta is 0, nor with adapters",
    "gathered": "embeddings of a sharded model; all of it, or a cast of it, while it samples itself",
    "activations": "of one micro-batch, kept for the backward pass",
    "working": "one layer computed backward, or the head with its logits; the optimiser's copy",
    "engine": "its own copy of the weights",
    "cache": "keys and values of the rollouts",
    "graphs": "recorded CUDA graphs",
}
_points = partial(points, minus="-")  # logs are searched: a plain hyphen


def score_table(matrix: ScoreMatrix) -> Table:
    """Return scores at temperature 1 in percent, each with an arrow for its change since the base, and forgetting."""
    columns = (Column(name, justify="right", overflow="fold") for name in (*matrix.tasks, "mean"))
    table = Table(Column("", overflow="fold"), *columns, box=None, pad_edge=False)
    base, means = matrix.rows[0], mean_scores(matrix)
    for label, row, average in zip(matrix.labels, matrix.rows, means, strict=True):
        arrows = [_arrow(difference(base[task].estimate, row[task].estimate)) for task in matrix.tasks]
        scores = [f"{percent(row[task].sampled)} " for task in matrix.tasks]
        change = " " * 5 if row is base else f" {_gained(difference(means[0], average)):>4}"
        cells = map(Text.assemble, scores, arrows)
        table.add_row(row_name(label), *cells, Text(percent(average.value) + change, style="bold"))
    lost = forgetting(matrix)
    if lost:
        table.add_section()
        table.add_row("forgotten", *[f"{_points(value)}  " for value in lost.values()], _points(mean(lost)) + " " * 5)
    return table


def _arrow(change: Estimate) -> tuple[str, str]:
    if change.value == 0 or math.isnan(change.value):
        return " ", ""
    if change.low <= 0 <= change.high:
        return ("△" if change.value > 0 else "▽"), "dim"
    return ("▲", "bold green") if change.value > 0 else ("▼", "bold red")


def _gained(change: Estimate) -> str:
    """Return ``▲40``, ``▽2`` or ``0`` points: signs are left to what is forgotten, which is the opposite."""
    number, (arrow, _) = _points(change.value), _arrow(change)
    return number if math.isnan(change.value) else number.replace("+", arrow).replace("-", arrow)


def legend(matrix: ScoreMatrix) -> str:
    """Return the meaning of the signs in the table of a matrix."""
    whole = all(score.measured for row in matrix.rows for score in row.values())
    return LEGEND if whole else f"{LEGEND}\n{GAPS}"


def evaluation_line(matrix: ScoreMatrix) -> str:
    """Return the last row in one line: ``after code: code 71 ▲40  math 40 ▽2  mean 43 ▲9``, since the base."""
    means, base, last = mean_scores(matrix), matrix.rows[0], matrix.rows[-1]
    scores = [(task, base[task].estimate, last[task].estimate) for task in matrix.tasks]
    cells = []
    for name, before, now in [*scores, ("mean", means[0], means[-1])]:
        change = difference(before, now)
        shown = len(matrix.rows) > 1 and not math.isnan(change.value)
        cells.append(f"{name} {percent(now.value)}" + (f" {_gained(change)}" if shown else ""))
    return f"{row_name(matrix.labels[-1])}: " + "  ".join(cells)


def score_markdown(matrix: ScoreMatrix) -> str:
    """Return scores at temperature 1 in percent with their 95 % intervals, and what was forgotten, as Markdown."""
    rows = [
        [row_name(label), *(with_interval(row[task].estimate) for task in matrix.tasks), with_interval(average)]
        for label, row, average in zip(matrix.labels, matrix.rows, mean_scores(matrix), strict=True)
    ]
    lost = forgetting(matrix)
    if lost:
        rows.append(["forgotten (base - last)", *(_points(value, 1) for value in (*lost.values(), mean(lost)))])
    return "\n".join([f"{TITLE} (95 % interval)", "", *markdown_table(["", *matrix.tasks, "mean"], rows)])


def score_columns(matrix: ScoreMatrix) -> dict[str, list[Any]]:
    """Return the matrix as columns: scores at temperature 1 as fractions, then their intervals, then what was lost."""
    columns: dict[str, list[Any]] = {"row": [row_name(label) for label in matrix.labels]}
    for task in matrix.tasks:
        columns[task] = [row[task].sampled for row in matrix.rows]
    columns["mean"] = [average.value for average in mean_scores(matrix)]
    for task in matrix.tasks:
        columns[f"{task} low"] = [row[task].sampled_low for row in matrix.rows]
        columns[f"{task} high"] = [row[task].sampled_high for row in matrix.rows]
    if lost := forgetting(matrix):
        last = {"row": "forgotten (base - last)", **lost, "mean": mean(lost)}
        columns = {name: [*values, last.get(name)] for name, values in columns.items()}
    return {name: [_rounded(value) for value in values] for name, values in columns.items()}


def _rounded(value: object) -> object:
    """A number as a table shows it; ``None`` for one that was not measured."""
    return value if not isinstance(value, float) else None if math.isnan(value) else round(value, 4)


def sample_lines(samples: Mapping[str, Sequence[Sample]], count: int, width: int) -> list[str]:
    """Return a line or two for each of the first samples of each task: reward and question, then the completion."""
    lines = []
    for task, own in samples.items():
        for sample in own[:count]:
            shown = sample.outcome.shown
            head = f"  {task} {shown if isinstance(shown, str) else f'{shown:.2f}'}  "
            lines.append(head + _start(sample.question, max(1, width - len(head))))
            lines.append(f"    {_end(sample.completion, max(1, width - 4))}")
    return lines


def reward_table(groups: Sequence[ScoredGroup]) -> Table:
    """Return a line per completion: the task's own reward first, then the other components, then the total."""
    rows = [(group, i) for group in groups for i in range(len(group.scores))]
    others = list(dict.fromkeys(name for group, i in rows for name in list(_outcomes(group.scores[i]))[1:]))
    table = Table("#", "task", "uid", "completion", "own reward", *others, "total")
    for number, (group, i) in enumerate(rows, 1):
        score, completion = group.scores[i], group.group.completions[i]
        outcomes = _outcomes(score)
        rewards = [_reward(score.primary), *(_reward(outcomes[name]) if name in outcomes else "" for name in others)]
        total = str(score.state) if score.total is None else f"{score.total:g}"
        about = [str(number), group.task, _end(group.group.example.uid, _UID), _end(completion.text, _COMPLETION)]
        table.add_row(*_plain(*about, *rewards, total))
    return table


def reward_summary(groups: Sequence[ScoredGroup]) -> Table:
    """Return a line per task and component: mean of the values, their number, and how many are undefined or failed."""
    table = Table("task", "reward", "mean", "values", "undefined", "failed")
    for task in dict.fromkeys(group.task for group in groups):
        scores = [_outcomes(score) for group in groups if group.task == task for score in group.scores]
        for name in scores[0]:
            outcomes = [outcomes[name] for outcomes in scores]
            values = [outcome.value for outcome in outcomes if outcome.value is not None]
            states = [outcome.state for outcome in outcomes]
            counts = [len(values), states.count(State.UNDEFINED), states.count(State.FAILED)]
            table.add_row(task, name, f"{fmean(values):.3f}" if values else "", *map(str, counts))
    return table


def _outcomes(score: Score) -> dict[str, Outcome]:
    return {component.name: component.outcome for component in score.components}


def _reward(outcome: Outcome) -> str:
    return f"{outcome.value:g}" if outcome.value is not None else f"{outcome.state}: {outcome.reason}"


def _start(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _end(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"…{line[1 - longest :]}"


def _plain(*cells: str) -> list[Text]:
    """Cells that are not read as rich's markup: completions and names may hold brackets."""
    return [Text(cell) for cell in cells]


def benchmark_table(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> Table:
    """Return a line per benchmark and per category, then one per domain; scores in percent with 95 % intervals."""
    names = (Column(name, overflow="fold") for name in ("benchmark", "metric"))  # give way where it is narrow
    numbers = (Column(name, no_wrap=True) for name in ("score", "95 %", "prompts", "no answer", "failed", "s"))
    table = Table(*names, *numbers, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for one in scores:
        counts = [f"{one.prompts} × {one.samples}", f"{one.undefined:.1%}", f"{one.failed:.1%}", f"{one.seconds:.0f}"]
        table.add_row(*_plain(one.name, one.metric, *_score(one.score), *(counts if one.prompts else [])))
        for name, figure in {**one.figures, **one.categories}.items():
            table.add_row(*_plain(f"  {name}", "", *_score(figure)))
    table.add_section()
    for domain in domains:
        metric = "" if len(domain.benchmarks) == 1 else f"mean of {len(domain.benchmarks)}"
        table.add_row(*_plain(f"= {domain.name}", metric, *_score(domain.score)))
    return table


def _score(found: Interval | None) -> tuple[str, str]:
    return (percent(found.mean, 2), f"{percent(found.low, 1)} - {percent(found.high, 1)}") if found else ("none", "")


def problems(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> list[str]:
    """Return why benchmarks and domains have no score, a line each."""
    lines = [f"{one.name} has no score: {one.problem}" for one in scores if one.score is None]
    return lines + [f"{one.name} has no domain score: {one.problem}" for one in domains if one.score is None]


def bars(label: str, state: str, console: Console) -> Progress:
    """Return a display of bars with a label before each, and the time left and a state behind it."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn(state))
    # By default the pace of more than 30 seconds ago is forgotten. A batch of a real model takes longer: none was left.
    return Progress(*columns, console=console, speed_estimate_period=math.inf)


@contextmanager
def benchmark_progress(console: Console) -> Iterator[Callable[[str, int, int, Sequence[Record]], None]]:
    """Show a bar per benchmark, with the mean score so far; yields the function to call when a chunk is done."""
    suites: dict[str, TaskID] = {}
    with bars("{task.description}", "{task.fields[mean]}", console) as progress:

        def update(suite: str, done: int, total: int, records: Sequence[Record]) -> None:
            if suite not in suites:
                suites[suite] = progress.add_task(suite, total=total, mean="")
            values = [record.value or 0.0 for record in records if record.state != "failed"]
            progress.update(suites[suite], completed=done, mean=f"{fmean(values):.1%} so far" if values else "")

        yield update


def memory_table(phases: Mapping[str, Mapping[str, float]], machine: Machine) -> Table:
    """Return GiB on each GPU, by part and phase of a step, with their sums."""
    columns = (Column(name, justify="right") for name in phases)
    table = Table("part", *columns, "what it is", title="GiB on each GPU", title_justify="left", box=None)
    for name, meaning in _MEMORY_NOTES.items():
        sizes = [parts.get(name, 0.0) for parts in phases.values()]
        if any(sizes):
            table.add_row(name, *(f"{size / _GIB:.2f}" if size else "" for size in sizes), meaning)
    totals = [sum(parts.values()) / _GIB for parts in phases.values()]
    verdict = "fits" if max(totals) <= 0.9 * machine.memory_gib else "does not fit with a tenth to spare"
    table.add_section()
    table.add_row("all", *(f"{total:.2f}" for total in totals), f"{verdict}, of {machine.memory_gib:g}")
    return table


def speed_table(phases: Mapping[str, float], settings: Settings) -> Table:
    """Return seconds of a step, and tokens per second on all GPUs together."""
    columns = "phase", Column("seconds", justify="right")
    table = Table(*columns, title="A step at best", title_justify="left", box=None)
    for name, duration in phases.items():
        table.add_row(name, f"{duration:.3g}")
    tokens = settings.prompts * settings.group_size * settings.tokens
    table.add_section()
    table.add_row("tokens per second", f"{tokens / sum(phases.values()):,.0f}")
    return table


def filter_table(task: str, report: Report) -> Table:
    """Return a line per filter: rows before it, dropped, after it, and the first row dropped with the reason."""
    table = Table("split", "filter", "before", "dropped", "after", "such as", title=f"{task}: {report.source}")
    for step in report.steps:
        split, name, before, after = step["split"], step["filter"], step["before"], step["after"]
        dropped = (row for row in report.dropped if (row["split"], row["filter"]) == (split, name))
        example = next((f"row {row['row']}: {row['why']}" for row in dropped), "")
        table.add_row(*_plain(split, name, str(before), str(before - after), str(after), example[:_REASON]))
    return table


def filter_columns(reports: Mapping[str, Report]) -> dict[str, list[Any]]:
    """Return the filters of all tasks as columns."""
    rows = [{"task": task, **step} for task, report in reports.items() for step in report.steps]
    return {name: [row[name] for row in rows] for name in ("task", "split", "filter", "before", "after")}


def demonstration_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Return one row per count, one column per task."""
    columns = (Column(task, justify="right", min_width=8) for task in counts)
    table = Table(Column(min_width=11), *columns, box=None, pad_edge=False, header_style="dim")
    for name in COUNTED:
        table.add_row(name, *(str(count.get(name, 0)) for count in counts.values()))
    return table
