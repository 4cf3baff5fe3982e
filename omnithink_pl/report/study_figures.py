"""Figures of a study: the paper's, learning curves, mean score matrices."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil, isnan
from statistics import fmean

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from omnithink_pl.curriculum.score_matrix import (
    Kind,
    ScoreMatrix,
    TaskScore,
    backward_transfer,
    forgetting,
    mean,
    mean_scores,
)
from omnithink_pl.report.console import row_name
from omnithink_pl.report.estimates import Estimate, difference, has, mean_score, over_seeds
from omnithink_pl.report.paper import answer_formats
from omnithink_pl.report.results import LETTER, Method, StudyResults
from omnithink_pl.report.run_figures import moving_average, score_matrix_figure
from omnithink_pl.report.study_tables import (
    TRANSFER_SIGN,
    best_interval,
    interval_note,
    measure_note,
    sample_note,
    transfer_to_others,
)
from omnithink_pl.report.style import INK, RC, colours, difference_panels, grouped_bars
from omnithink_pl.report.tables import Table, numbers, signed


def gains_figure(study: StudyResults) -> Figure:
    """Figure 1: what each method gained over the base model, by task."""
    domain = study.domain_score()
    groups = {**{task: [score] for task, score in domain.items()}, "mean": list(domain.values())}
    bars: dict[str, list[Estimate | None]] = {
        method.name: [
            best_interval(difference(method, study.base, scores)) if has(method, scores) else None
            for scores in groups.values()
        ]
        for method in study.trained
    }
    note = f"{measure_note(study)} Lines: 95 % interval over prompts of these runs (paired bootstrap)."
    return difference_panels(
        list(groups),
        bars,
        title="Figure 1: gain over the base model by task and method",
        unit="points above the base model (below 0: forgotten)",
        note=wrap(note, 130),
    )


def format_scores(study: StudyResults) -> tuple[str, str] | None:
    """The names of the same questions answered in full and with a letter; ``None`` if a study has no such pair."""
    names = sorted({name for method in study.trained for name in method.scores})
    for name in names:
        domain, _, benchmark = name.partition("/")
        stem = benchmark.removesuffix(LETTER)
        texts = [f"{domain.removesuffix(LETTER)}/{text}" for text in (stem, f"{stem}_text")]
        found = [text for text in texts if text in names]
        if domain.endswith(LETTER) and found:
            return found[0], name
    return None


def format_figure(study: StudyResults) -> Figure | None:
    """Figure 2: the same questions answered in full and with a letter; ``None`` if a study has no such runs."""
    names = format_scores(study)
    if names is None:
        return None
    methods = [method for method in study.methods if has(method, [names[0]]) and has(method, [names[1]])]
    bars: dict[str, list[Estimate | None]] = {
        method.name: [mean_score(method, [name]) for name in names] for method in methods
    }
    prompts = max((len(own) for method in methods for own in method.prompts.get(names[0], {}).values()), default=0)
    note = f"Lines: {interval_note(study).removeprefix('In brackets: ')}"
    note = f"The same {prompts} questions in both forms. {note}" if prompts else note
    if names[0] == "qa/mmlu_pro":
        printed = {key: f"{100 * value:.1f}" for key, value in answer_formats().items()}
        note += (
            f" The paper prints, trained on full text: {printed['text', 'text']} and {printed['text', 'letters']}; "
            f"trained on letters: {printed['letters', 'text']} and {printed['letters', 'letters']}."
        )
    return grouped_bars(
        ["answered in full", "answered with a letter"],
        bars,
        title=f"Figure 2: form of the answer, {names[0]}",
        unit="score in percent",
        note=wrap(note),
        differences=False,
    )


def transfer_figure(study: StudyResults) -> Figure | None:
    """Figure 3: mean change on the other tasks by the task trained; ``None`` without single-task runs."""
    found = transfer_to_others(study)
    if not found:
        return None
    return grouped_bars(
        list(found),
        {"change": [best_interval(one) for one in found.values()]},
        title="Figure 3: mean change on the other tasks, by the task trained",
        unit="after − base in points\n← forgotten      gained →",
        note=wrap(
            f"{TRANSFER_SIGN} The sign of the paper's Figure 3; its equation BWT = base − after has the opposite one. "
            f"Lines: 95 % interval over prompts of these runs (paired bootstrap); {sample_note(study)}."
        ),
        differences=True,
        digits=1,
    )


def wrap(text: str, width: int = 100) -> str:
    """A note in lines that fit below a figure."""
    return "\n".join(textwrap.wrap(text, width))


_ACROSS = 2


def study_curves_figure(study: StudyResults) -> Figure | None:
    """Training rewards by step, moving averages: mean over the seeds as a line, lowest to highest as a band.

    Returns:
        ``None`` if no method has training rewards.
    """
    methods = [method for method in study.trained if any(run.rewards for run in method.runs)]
    if not methods:
        return None
    colour = colours(study.tasks)
    across = min(_ACROSS, len(methods))
    down = ceil(len(methods) / across)
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(5.4 * across, 0.9 + 2.5 * down), dpi=160, layout="constrained")
        panels = drawn.subplots(down, across, squeeze=False, sharey=True).flatten()
        for panel, method in zip(panels, methods, strict=False):
            _panel(panel, method, colour)
        for empty in panels[len(methods) :]:
            empty.set_visible(False)
        seeds = max(len(method.runs) for method in methods)
        note = f"lines: mean of {seeds} seeds, smoothed; bands: lowest to highest seed" if seeds > 1 else "smoothed"
        drawn.supxlabel(f"step    ({note}; grey: stages)", fontsize=9)
        drawn.supylabel("primary reward in training", fontsize=10)
        shown = [task for task in study.tasks if any(task in run.rewards for m in methods for run in m.runs)]
        handles = [panels[0].plot([], [], color=colour[task], lw=3, label=task)[0] for task in shown]
        drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return drawn


def _panel(axes: Axes, method: Method, colour: Mapping[str, str]) -> None:
    stages = next((run.stages for run in method.runs if run.stages), ())
    ends = [0, *accumulate(stage.steps for stage in stages)]
    for index in range(len(stages)):
        axes.axvspan(ends[index], ends[index + 1], color="#f4f4f4" if index % 2 == 0 else "#e8e8e8", lw=0, zorder=0)
    window = max(5, ends[-1] // 20) | 1  # odd, so that it has a middle
    for task, shade in colour.items():
        runs = [run.rewards[task] for run in method.runs if run.rewards.get(task)]
        if runs:
            steps, curves = _aligned(runs, window)
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=shade, alpha=0.2, lw=0)
            axes.plot(steps, curves.mean(axis=0), color=shade, lw=1.8)
    axes.set_title(method.name, fontsize=10, color=INK, pad=4)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, max(1, ends[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    axes.spines[["top", "right"]].set_visible(False)


def _aligned(runs: Sequence[Sequence[tuple[int, float]]], window: int) -> tuple[list[int], np.ndarray]:
    """Smoothed curves at the steps that all runs have: shape (runs, steps)."""
    steps = sorted(set.intersection(*({step for step, _ in run} for run in runs)))
    wanted = set(steps)
    curves = [moving_average([value for step, value in sorted(run) if step in wanted], window) for run in runs]
    return steps, np.array(curves)


SIGN = "forgotten = base − last row, the paper's sign: above 0 is forgotten, below 0 learned."
LOSS = "lost since its stage = after that stage − last row: above 0 is lost."


def matrices(study: StudyResults) -> list[tuple[Method, list[ScoreMatrix]]]:
    """The matrices of each method that has them from several seeds and with the same stages."""
    found = [(method, [run.matrix for run in method.runs if run.matrix is not None]) for method in study.trained]
    return [(method, own) for method, own in found if len(own) > 1 and len({one.labels for one in own}) == 1]


def matrix_table(study: StudyResults) -> Table | None:
    """Every method's mean matrix and what it forgot; ``None`` if no method has several matrices."""
    found = matrices(study)
    if not found:
        return None
    tasks = list(dict.fromkeys(task for _, own in found for task in own[0].tasks))
    rows: list[list[str]] = []
    records: list[dict[str, str | float]] = []
    for method, own in found:
        losses = _losses(method, own)
        for index, (label, cells) in enumerate([*_rows(own).items(), *losses.items()]):
            show = _points if label in losses else _percent
            shown = [show(cells[task]) if task in cells else "" for task in (*tasks, "mean")]
            rows.append(["" if index else method.name, label, *shown])
            for task, value in cells.items():
                about: dict[str, str | float] = {"method": method.name, "row": label, "task": task}
                records.append({**about, "seeds": len(own), **numbers("value", value)})
    note = (
        f"In percent, sampled at temperature 1{_prompts(found)}. In brackets: 95 % interval over the seeds (Student's "
        f"t), cut off where scores end. {SIGN} {LOSS} Both in points, with the interval of the seeds' own differences."
    )
    columns = ["method", "row", *tasks, "mean"]
    return Table("score_matrices", "Score matrices: after every stage, all tasks", columns, rows, note, records)


def matrix_figures(study: StudyResults) -> list[tuple[str, str, Figure]]:
    """Each method's mean matrix as a picture: key, title, figure."""
    found = matrices(study)
    return [
        (
            f"matrix_{'_'.join(method.name.split())}",
            f"Score matrix: {method.name}",
            _figure(method, own, _prompts(found)),
        )
        for method, own in found
    ]


def _figure(method: Method, own: Sequence[ScoreMatrix], prompts: str) -> Figure:
    return score_matrix_figure(
        mean_matrix(own),
        _trained(method, own),
        title=f"{method.name}: mean score of {len(own)} seeds in percent",
        note=f"Sampled at temperature 1{prompts}. Below each value its 95 % interval over the seeds (Student's t).\n"
        f"Outlined: what the stage trained. {SIGN}\n{LOSS if len(own[0].rows) > 2 else ''}".strip(),
        means=row_means(own),
        summaries=_losses(method, own),
    )


def _rows(own: Sequence[ScoreMatrix]) -> dict[str, Mapping[str, Estimate]]:
    """The rows of the mean matrix by their name."""
    combined, means = mean_matrix(own), row_means(own)
    rows: dict[str, Mapping[str, Estimate]] = {}
    for label, row, average in zip(combined.labels, combined.rows, means, strict=True):
        scores = {task: Estimate(one.sampled, *one.interval()) for task, one in row.items()}
        rows[_name(label, rows)] = {**scores, "mean": average}
    return rows


def _losses(method: Method, own: Sequence[ScoreMatrix]) -> dict[str, Mapping[str, Estimate]]:
    """What was lost since the base, and since each task's own stage, where there is such."""
    found = {"forgotten": mean_forgetting(own), "lost since its stage": mean_loss(own, _trained(method, own))}
    return {name: lost for name, lost in found.items() if lost}


def _trained(method: Method, own: Sequence[ScoreMatrix]) -> list[list[str]]:
    """The tasks of each stage; none where stages took another order than the config's, as a scheduler has them."""
    stages = next(run.stages for run in method.runs if run.matrix is not None)
    planned = [f"{number} {stage.name}" for number, stage in enumerate(stages, 1)]
    if list(own[0].labels[1:]) != planned[: len(own[0].rows) - 1]:
        return [[] for _ in own[0].rows[1:]]
    return [[task for task, weight in stage.tasks.items() if weight > 0] for stage in stages]


def _name(label: str, taken: Mapping[str, object]) -> str:
    """``after code``; with its number, ``after 3 code``, where the same stage comes again."""
    name = row_name(label)
    return f"after {label}" if name in taken else name


def _prompts(found: Sequence[tuple[Method, Sequence[ScoreMatrix]]]) -> str:
    sizes = {(s.prompts, s.samples) for _, own in found for one in own for row in one.rows for s in row.values()}
    if len(sizes) != 1:
        return ""
    ((prompts, samples),) = sizes
    return f", {prompts} held-out prompts of each task with {samples} samples each"


def _percent(found: Estimate) -> str:
    if isnan(found.value):
        return "not measured"
    return f"{100 * found.value:.0f} ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _points(found: Estimate) -> str:
    if isnan(found.value):
        return "not measured"
    return f"{signed(found.value, 0)} ({signed(found.low, 0)} to {signed(found.high, 0)})"


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """Means over seeds, with Student's 95 % intervals over them, cut off at 0 and 1.

    Args:
        matrices: One per seed, of the same rows and tasks.

    Raises:
        ValueError: If there is none, or their rows differ.
    """
    if len({matrix.labels for matrix in matrices}) != 1:
        raise ValueError("a mean takes score matrices with the same rows, one at least")
    combined = ScoreMatrix()
    for row, label in enumerate(matrices[0].labels):
        scores = {task: [matrix.rows[row][task] for matrix in matrices] for task in matrices[0].tasks}
        combined = combined.add(label, {task: _mean(own) for task, own in scores.items()})
    return combined


def row_means(matrices: Sequence[ScoreMatrix], kind: Kind = "sampled") -> list[Estimate]:
    """Mean over the tasks of each row, over seeds with Student's 95 % interval.

    Args:
        matrices: As above.
        kind: ``sampled`` or ``greedy``.
    """
    by_seed = [mean_scores(matrix, kind) for matrix in matrices]
    return [over_seeds(values) for values in zip(*by_seed, strict=True)]


def mean_forgetting(matrices: Sequence[ScoreMatrix], kind: Kind = "sampled") -> dict[str, Estimate]:
    """Forgetting P_base - P_after of each task and of their ``mean``, over seeds with Student's 95 % interval.

    A seed's two rows are subtracted first, so that what a seed has in both of them is no part of the interval.

    Args:
        matrices: As above; at least two rows each.
        kind: ``sampled`` or ``greedy``.
    """
    return _over_seeds([forgetting(matrix, kind) for matrix in matrices])


def mean_loss(
    matrices: Sequence[ScoreMatrix], trained: Sequence[Sequence[str]], kind: Kind = "sampled"
) -> dict[str, Estimate]:
    """What is lost at the end of what a task had after its own stage, R_own - R_last, and the ``mean``.

    Backward transfer with the opposite sign, so that positive is lost as in ``mean_forgetting``; intervals likewise.

    Args:
        matrices: As above.
        trained: The tasks that each stage trained.
        kind: ``sampled`` or ``greedy``.

    Returns:
        Without the tasks of the last stage; empty if there are no others.
    """
    moved = [backward_transfer(matrix, trained, kind) for matrix in matrices]
    return _over_seeds([{task: -value for task, value in seed.items()} for seed in moved])


def _over_seeds(by_seed: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    if not by_seed[0]:
        return {}
    columns = {task: [seed[task] for seed in by_seed] for task in by_seed[0]}
    found = {name: over_seeds(own) for name, own in {**columns, "mean": [mean(seed) for seed in by_seed]}.items()}
    return {name: Estimate(one.value, max(-1.0, one.low), min(1.0, one.high)) for name, one in found.items()}


def _mean(scores: Sequence[TaskScore]) -> TaskScore:
    sampled = over_seeds([score.sampled for score in scores])
    greedy = over_seeds([score.greedy for score in scores])
    return TaskScore(
        sampled=sampled.value,
        sampled_low=_low(sampled),
        sampled_high=_high(sampled),
        greedy=greedy.value,
        greedy_low=_low(greedy),
        greedy_high=_high(greedy),
        prompts=scores[0].prompts,
        samples=scores[0].samples,
        undefined=fmean(score.undefined for score in scores),
        failed=fmean(score.failed for score in scores),
    )


def _low(estimate: Estimate) -> float:
    return max(0.0, estimate.low)


def _high(estimate: Estimate) -> float:
    return min(1.0, estimate.high)
