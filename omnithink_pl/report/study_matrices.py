"""The score matrices of a study: of each method that was run with several seeds, their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from matplotlib.figure import Figure

from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.mean_matrix import mean_forgetting, mean_loss, mean_matrix, row_means
from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.score_matrix import score_matrix_figure
from omnithink_pl.report.score_table import row_name
from omnithink_pl.report.table import Table, numbers, signed
from omnithink_pl.transfer import ScoreMatrix

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
    for label, row, mean in zip(combined.labels, combined.rows, means, strict=True):
        scores = {task: Estimate(one.sampled, *one.interval()) for task, one in row.items()}
        rows[_name(label, rows)] = {**scores, "mean": mean}
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
