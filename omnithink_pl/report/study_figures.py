"""Figures of a study: the paper's, transfer and planned orders, learning curves, mean score matrices."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from statistics import fmean

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from omnithink_pl.curriculum.planning import Plan
from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.report import paper, style
from omnithink_pl.report import study_tables as tables
from omnithink_pl.report import transfer_tables as transfer
from omnithink_pl.report.estimates import difference, has, mean_losses, mean_rows, mean_score
from omnithink_pl.report.output import Picture, interval, percent, points
from omnithink_pl.report.plan_tables import final_scores_of_orders
from omnithink_pl.report.results import LETTER, Method, StudyResults
from omnithink_pl.report.run_figures import matrix_figure
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL, SMALL

_ACROSS = 2  # panels
_SHOWN = 24  # orders, half of them the best and half the worst where there are more


def gains_figure(study: StudyResults) -> Picture:
    """Draw Figure 1: what each method gained over the base model, by task."""
    groups = study.groups()
    bars: dict[str, list[Estimate | None]] = {
        method.name: [
            difference(method, study.base, scores).best if has(method, scores) else None for scores in groups.values()
        ]
        for method in study.trained
    }
    note = f"{tables.measure_note(study)} Lines: 95 % interval over prompts of these runs (paired bootstrap)."
    printed = _printed_gains(study)
    if printed:
        bars = {name: own for key, given in bars.items() for name, own in _with_paper(key, given, printed)}
        note += f" (paper): from its Tables 1 and 2, for {paper.MODEL}."
    title = "Figure 1: gain over the base model by task and method"
    unit = "points above the base model (below 0: forgotten)"
    drawn = style.bar_panels(list(groups), bars, title=title, unit=unit, note=style.wrap(note, 130))
    return Picture("figure1", "Figure 1: gain by task and method", drawn)


def _printed_gains(study: StudyResults) -> dict[str, list[Estimate | None]]:
    """Return what the paper's methods gained, by name of the method that reproduces them; only on its benchmarks."""
    table, shared = paper.domain_scores(), [task for task in study.tasks if tables.same_domain(study, task)]
    found: dict[str, list[Estimate | None]] = {}
    for method in study.trained:
        if method.paper in table["code"]:
            gained = {task: table[task][method.paper] - table[task]["base"] for task in shared}
            if set(shared) == set(study.task_scores()):
                gained["mean"] = fmean(gained.values())
            found[method.name] = [Estimate(gained[group]) if group in gained else None for group in study.groups()]
    return found if shared else {}


def _with_paper(
    name: str, own: list[Estimate | None], printed: Mapping[str, list[Estimate | None]]
) -> list[tuple[str, list[Estimate | None]]]:
    return [(name, own), *([(f"{name} (paper)", printed[name])] if name in printed else [])]


def format_scores(study: StudyResults) -> tuple[str, str] | None:
    """Return the names of the same questions answered in full and with a letter; ``None`` if there is no such pair."""
    names = sorted({name for method in study.trained for name in method.scores})
    for name in names:
        domain, _, benchmark = name.partition("/")
        stem = benchmark.removesuffix(LETTER)
        texts = [f"{domain.removesuffix(LETTER)}/{text}" for text in (stem, f"{stem}_text")]
        found = [text for text in texts if text in names]
        if domain.endswith(LETTER) and found:
            return found[0], name
    return None


def format_figure(study: StudyResults) -> Picture | None:
    """Draw Figure 2: the same questions answered in full and with a letter; ``None`` if a study has no such runs."""
    names = format_scores(study)
    if names is None:
        return None
    methods = [method for method in study.methods if has(method, [names[0]]) and has(method, [names[1]])]
    prompts = max((len(own) for method in methods for own in method.prompts.get(names[0], {}).values()), default=0)
    note = f"Lines: {tables.interval_note(study).removeprefix('In brackets: ')}"
    note = f"The same {prompts} questions in both forms. {note}" if prompts else note
    if names[0] == "qa/mmlu_pro":
        printed = {key: percent(value, 1) for key, value in paper.answer_formats().items()}
        note += (
            f" The paper prints, trained on full text: {printed['text', 'text']} and {printed['text', 'letters']}; "
            f"trained on letters: {printed['letters', 'text']} and {printed['letters', 'letters']}."
        )
    bars = {method.name: [mean_score(method, [name]) for name in names] for method in methods}
    panels, title = ["answered in full", "answered with a letter"], f"Figure 2: form of the answer, {names[0]}"
    drawn = style.bar_panels(panels, bars, title=title, unit="score in percent", note=style.wrap(note), number=percent)
    return Picture("figure2", "Figure 2: form of the answer", drawn)


def transfer_figure(study: StudyResults) -> Picture | None:
    """Draw Figure 3 with both of its readings: a task as the cause, and as the victim; ``None`` without such runs."""
    causes, victims = transfer.does_to_others(study), transfer.others_do_to(study)
    if not causes:
        return None
    bars: dict[str, list[Estimate | None]] = {}
    for task in dict.fromkeys([*sorted(victims, key=lambda task: -victims[task].best.value), *causes]):
        bars[task] = [found[task].best if task in found else None for found in (causes, victims)]
        if task in paper.DOMAINS and tables.same_domain(study, task):
            bars[f"{task} (paper)"] = [Estimate(value) for value in transfer.paper_transfer()[task]]
    note = (
        f"{transfer.TRANSFER_SIGN} The sign of the paper's Figure 3; its equation BWT = base − after has the opposite "
        f"one. Lines: 95 % interval over prompts of these runs (paired bootstrap); {tables.sample_note(study)}. "
        f"{transfer.paper_note()}"
    )
    drawn = style.bar_panels(
        [f"what it {transfer.CAUSE}", f"what {transfer.VICTIM}"],
        bars,
        title="Figure 3: mean change by training one task alone",
        unit="after − base in points\n← forgotten      gained →",
        note=style.wrap(note),
        number=lambda value, _: points(value, 1),
    )
    return Picture("figure3", "Figure 3: backward transfer, both ways", drawn)


def transfer_matrix_figure(plan: Plan) -> Picture:
    """Draw the change of every task (column) by training on a task (row), in points with 95 % intervals."""
    tasks = plan.tasks
    largest = max(abs(found.value) for row in plan.effects for found in row) or 1.0
    with style.figure(2.6 + 1.35 * len(tasks), 1.9 + 0.75 * len(tasks)) as (drawn, axes):
        for y, row in enumerate(plan.effects):
            for x, found in enumerate(row):
                shade = 0.42 * found.value / largest
                ink = "white" if abs(shade) > 0.3 else INK
                fill = colormaps["RdBu"](0.5 + shade)
                style.cell(axes, x, y, points(found.value), interval(found, points), fill=fill, ink=ink)
        rows = {y: f"trained {task}" for y, task in enumerate(tasks)}
        note = f"{transfer.TRANSFER_SIGN}\nBelow each value its 95 % interval (seeds and prompts)."
        style.matrix_axes(axes, dict(enumerate(tasks)), rows, "Transfer: change of every task, in points", note)
    return Picture("transfer_matrix", "Transfer matrix", drawn)


def orders_figure(study: StudyResults, plan: Plan) -> Picture:
    """Draw the predicted mean of the orders with 95 % intervals, and the actual mean of those that were run."""
    actual = {method.order: method for method in study.trained}
    shown = list(plan.predictions)
    if len(shown) > _SHOWN:
        half = _SHOWN // 2
        shown = [*shown[:half], *(one for one in shown[half:-half] if one.order in actual), *shown[-half:]]
    with style.figure(9.2, 1.9 + 0.27 * len(shown)) as (drawn, axes):
        for y, one in enumerate(shown):
            style.dot(axes, one.mean, y, LEARNED if one.within_noise else NEUTRAL, "o")
            if one.order in actual:
                method = actual[one.order]
                found = mean_score(method, list(study.task_scores().values()))
                style.dot(axes, found, y + 0.28, FORGOTTEN, "D")
                axes.annotate(
                    method.name, (100 * (found.high if found.known else found.value), y + 0.28), (6, 0),
                    textcoords="offset points", va="center", fontsize=SMALL, color=FORGOTTEN, zorder=5,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # so that no line crosses it out
                )  # fmt: skip
        axes.set_yticks(range(len(shown)), [" → ".join(one.order) for one in shown], fontsize=SMALL)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_title("Predicted mean of each order")
        note = (
            "Dots: predicted, with 95 % intervals; blue: within noise of the best, grey: behind it. "
            "Diamonds: actual, where the order was run, with 95 % intervals over its seeds."
        )
        axes.set_xlabel(f"mean of the final scores in percent\n{style.wrap(note)}", fontsize=SMALL)
    return Picture("orders", "Orders: predicted and actual", drawn)


def errors_figure(study: StudyResults, plan: Plan) -> Picture | None:
    """Draw predicted and actual final scores of every task, a panel per order that was run; ``None`` if none was."""
    by_method = final_scores_of_orders(study, plan)
    if not by_method:
        return None
    tasks = [task for task, _, _ in next(iter(by_method.values()))]
    across, down = min(_ACROSS, len(by_method)), ceil(len(by_method) / _ACROSS)
    size = (1.4 + 4.2 * across, 1.6 + (0.6 + 0.45 * len(tasks)) * down)
    title = "Predicted against actual final scores"
    with style.panels(len(by_method), across, size, title=title, sharex=True) as (drawn, grid):
        for axes, (name, scores) in zip(grid, by_method.items(), strict=True):
            for y, (_, predicted, actual) in enumerate(scores):
                style.dot(axes, predicted, y - 0.14, LEARNED, "o")
                style.dot(axes, actual, y + 0.14, FORGOTTEN, "D")
            axes.set_yticks(range(len(tasks)), tasks)
            axes.set_ylim(len(tasks) - 0.5, -0.5)
            axes.set_title(name, fontsize=10, pad=4)
            axes.tick_params(labelbottom=True)  # also above a place that stays empty
            axes.grid(axis="x")
        note = "Dots: predicted from single-task runs; diamonds: actual. Lines: 95 % intervals."
        drawn.supxlabel(f"score in percent\n{note}", fontsize=SMALL)
    return Picture("errors", "Predicted against actual, by task", drawn)


def study_curves_figure(study: StudyResults) -> Picture | None:
    """Draw smoothed training rewards by step: mean over the seeds as a line, lowest to highest as a band."""
    methods = [method for method in study.trained if any(run.rewards for run in method.runs)]
    if not methods:
        return None
    colour = style.colours(study.tasks)
    across = min(_ACROSS, len(methods))
    size = (5.4 * across, 0.9 + 2.5 * ceil(len(methods) / across))
    with style.panels(len(methods), across, size, sharey=True) as (drawn, grid):
        for axes, method in zip(grid, methods, strict=True):
            _plot_curves(axes, method, colour)
        seeds = max(len(method.runs) for method in methods)
        note = f"lines: mean of {seeds} seeds, smoothed; bands: lowest to highest seed" if seeds > 1 else "smoothed"
        drawn.supxlabel(f"step    ({note}; grey: stages)", fontsize=9)
        drawn.supylabel("primary reward in training", fontsize=10)
        shown = [task for task in study.tasks if any(task in run.rewards for m in methods for run in m.runs)]
        handles = [grid[0].plot([], [], color=colour[task], lw=3, label=task)[0] for task in shown]
        drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return Picture("learning_curves", "Learning curves", drawn)


def _plot_curves(axes: Axes, method: Method, colour: Mapping[str, str]) -> None:
    stages = next((run.stages for run in method.runs if run.stages), ())
    steps = style.shade_stages(axes, stages)[-1]
    window = style.smoothing_window(steps)
    for task, shade in colour.items():
        runs = [dict(run.rewards[task]) for run in method.runs if run.rewards.get(task)]
        if runs:
            common = sorted(set.intersection(*map(set, runs)))  # steps that all runs have
            # Shape (runs, steps).
            curves = np.array([style.moving_average([run[step] for step in common], window) for run in runs])
            axes.fill_between(common, curves.min(axis=0), curves.max(axis=0), color=shade, alpha=0.2, lw=0)
            axes.plot(common, curves.mean(axis=0), color=shade, lw=1.8)
    axes.set_title(method.name, fontsize=10, pad=4)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, max(1, steps))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def matrix_figures(study: StudyResults) -> list[Picture]:
    """Draw each method's mean score matrix."""
    pictures = []
    for method, own in tables.matrices(study):
        note = (
            f"{tables.matrix_note(study)} Below each value its 95 % interval over the seeds (Student's t).\n"
            f"Outlined: what the stage trained. {tables.FORGETTING_SIGN}\n"
        ) + (tables.LOSS_SIGN if len(own[0].rows) > 2 else "")
        trained = tables.trained_tasks(method, own[0])
        drawn = matrix_figure(
            list(mean_rows(own).items()),
            trained,
            title=f"{method.name}: mean score of {len(own)} seeds in percent",
            note=note.strip(),
            losses=mean_losses(own, trained),
        )
        key = f"matrix_{'_'.join(method.name.split())}"
        pictures.append(Picture(key, f"Score matrix: {method.name}", drawn))
    return pictures
