"""Tables of a study: the paper's, differences between methods, transfer and planned orders, mean score matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from omnithink_pl.curriculum.planning import Array, Plan, Scores, TransferScores, plan
from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix
from omnithink_pl.curriculum.score_matrix import difference as score_difference
from omnithink_pl.report import paper
from omnithink_pl.report.estimates import Difference, difference, has, holm, mean_losses, mean_rows, mean_score
from omnithink_pl.report.output import Table, numbers, percent, points, with_interval
from omnithink_pl.report.results import Method, StudyResults

TRANSFER_SIGN = "Change = after − base: below 0 is forgotten."
FORGETTING_SIGN = "forgotten = base − last row, the paper's sign: above 0 is forgotten, below 0 learned."
LOSS_SIGN = "lost since its stage = after that stage − last row: above 0 is lost."
_ALPHA = 0.05
_ORDERS = 12  # shown


def interval_note(study: StudyResults) -> str:
    """Say how the intervals of scores were made."""
    if len(study.seeds) > 1:
        return f"In brackets: 95 % interval of the mean over {len(study.seeds)} seeds (Student's t)."
    return "In brackets: 95 % interval over prompts (bootstrap); one seed says nothing about another."


def measure_note(study: StudyResults) -> str:
    """Say which score stands for a task."""
    kinds = {score.partition("/")[2] for score in study.task_scores().values()}
    words = {"": "sampled at temperature 1", "greedy": "greedy", "*": "mean of the domain's benchmarks"}
    return f"Score in percent on held-out prompts, {' and '.join(words[kind] for kind in kinds)}; {sample_note(study)}."


def sample_note(study: StudyResults) -> str:
    """Say how many seeds and prompts the scores of the tasks rest on."""
    scores = study.task_scores()
    seeds = sorted({len(method.scores.get(score, {})) for method in study.trained for score in scores.values()} - {0})
    number = " to ".join(dict.fromkeys(str(one) for one in [*seeds[:1], *seeds[-1:]]))
    text = f"{number} seed{'' if number == '1' else 's'}"
    prompts = {task: _prompts(study, score) for task, score in scores.items()}
    if not all(prompts.values()):
        return text
    if len(set(prompts.values())) == 1:
        return f"{text}, {next(iter(prompts.values()))} prompts of each task"
    return f"{text}; prompts: {', '.join(f'{task} {count}' for task, count in prompts.items())}"


def _prompts(study: StudyResults, score: str) -> int:
    """Number of prompts behind a score, of a run that has them; 0 if none has."""
    found = [[m.prompts[name] for name in m.components(score) if name in m.prompts] for m in study.methods]
    return max((sum(len(next(iter(by_seed.values()))) for by_seed in own) for own in found), default=0)


def order_table(study: StudyResults) -> Table:
    """Orders of the same stages against the base model; the paper's Table 1."""
    methods = [study.base, *(method for method in study.trained if len(method.order) > 1)]
    groups = study.groups()
    shared = [task for task in study.task_scores() if _same_domain(study, task)]
    printed = [method for method in methods if shared and method.paper in _columns(1)]
    headings = [f"{m.name} ({' → '.join(m.order)})" if m.order else m.name for m in methods]
    rows, records = [], []
    for group, scores in groups.items():
        found = {method.name: mean_score(method, scores) for method in methods if has(method, scores)}
        cells = [with_interval(found[method.name]) if method.name in found else "" for method in methods]
        rows.append([group, *cells, *(_printed(1, group, method) if group in shared else "" for method in printed)])
        records += [{"task": group, "method": name, **numbers("score", score)} for name, score in found.items()]
    note = f"{measure_note(study)} {interval_note(study)} {_paper_note(bool(shared))}"
    columns = ["", *headings, *(f"paper: {method.paper}" for method in printed)]
    return Table("table1", "Table 1: the order of the stages", columns, rows, note, records)


def method_table(study: StudyResults) -> Table:
    """Every score by every method; the paper's Table 2."""
    names = list(dict.fromkeys(name for method in study.methods for name in method.scores))
    domains = [*study.tasks, *dict.fromkeys(name.partition("/")[0] for name in names)]
    names.sort(key=lambda name: (domains.index(name.partition("/")[0]), name.count("/"), name))
    shared = [name for name in names if name in paper.scores(2)]
    printed = {method.name for method in study.methods if shared and method.paper in _columns(2)}
    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    for name in names:
        cells = [name]
        for method in study.methods:
            found = mean_score(method, [name]) if has(method, [name]) else None
            cells.append("" if found is None else with_interval(found))
            if method.name in printed:
                cells.append(_printed(2, name, method))
            if found is not None:
                values = {f"seed_{seed}": round(value, 6) for seed, value in method.scores[name].items()}
                records.append({"score": name, "method": method.name, **numbers("mean", found), **values})
        rows.append(cells)
    note = (
        "In percent. A task's own name: held-out prompts, sampled at temperature 1; /greedy: the same, greedy; /*: "
        f"mean of its benchmarks. {interval_note(study)} {_paper_note(bool(shared))}"
    )
    doubtful = [f"{name}: {paper.notes()[name]}." for name in shared if name in paper.notes()]
    columns = ["", *(c for m in study.methods for c in ([m.name, "paper"] if m.name in printed else [m.name]))]
    title = "Table 2: every score by every method"
    return Table("table2", title, columns, rows, " ".join([note, *doubtful]), records)


def difference_table(study: StudyResults) -> Table:
    """The first method with several stages in an order, else the first, against every other; all pairs in the CSV."""
    groups = study.groups()
    first = next((method for method in study.trained if len(method.order) > 1), study.trained[0])
    others = [method for method in study.methods if method is not first]
    found = {
        (one.name, other.name, group): difference(one, other, scores)
        for one, other in [*((first, other) for other in others), *combinations(others, 2)]
        for group, scores in groups.items()
        if has(one, scores) and has(other, scores)
    }
    tested = {key: one.p for key, one in found.items() if key[0] == first.name and one.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    rows = []
    for other in others:
        keys = [(first.name, other.name, group) for group in groups]
        rows.append([other.name, *(_starred(found[key], adjusted.get(key)) if key in found else "" for key in keys)])
    records = [
        {
            **dict(zip(("method", "other", "task"), key, strict=True)),
            **numbers("difference", one.prompts),
            **numbers("over_seeds", one.seeds),
            "p": "" if one.p is None else round(one.p, 6),
            "p_holm": adjusted.get(key, ""),
        }
        for key, one in found.items()
    ]
    note = (
        f"In points; positive: {first.name} is higher; {sample_note(study)}. In brackets: 95 % interval of the paired "
        "bootstrap over prompts, of these very runs. * : significant at 5 % over prompts, after Holm's correction for "
        f"{len(tested)} comparisons. ** : and the 95 % interval over seeds (Student's t on the paired seeds) excludes "
        "0 too. Without **, other seeds may reverse it. All pairs are in differences.csv."
    )
    title = f"Differences: {first.name} minus every other method"
    return Table("differences", title, ["", *groups], rows, note, records)


def _starred(found: Difference, p: float | None) -> str:
    """A difference with one star if it is significant over prompts, two if over seeds too."""
    stars = "" if p is None or p >= _ALPHA else " *" if found.seeds.low <= 0.0 <= found.seeds.high else " **"
    return with_interval(found.prompts, points) + stars


def _columns(number: int) -> set[str | None]:
    return {column for row in paper.scores(number).values() for column in row}


def _printed(number: int, name: str, method: Method) -> str:
    value = paper.scores(number).get(name, {}).get(method.paper or "")
    return "" if value is None else percent(value, 1)


def _same_domain(study: StudyResults, task: str) -> bool:
    """Whether our score is the mean of the same benchmarks as the paper's."""
    if study.task_scores()[task] != f"{task}/*":
        return False
    ours = {"/".join(name.split("/")[:2]) for name in study.base.scores if name.startswith(f"{task}/")}
    return bool(paper.benchmarks(task)) and ours - {f"{task}/*", f"{task}/greedy"} == paper.benchmarks(task)


def _paper_note(shared: bool) -> str:
    if not shared:
        return "No score here is on a benchmark of the paper, so its numbers do not stand beside ours."
    return (
        f"Columns headed paper: what is printed of the method, in Table 2 the one to their left, for {paper.MODEL} "
        f"({paper.CITATION}); same benchmark, other set-up."
    )


def transfer_to_others(study: StudyResults) -> dict[str, Difference]:
    """Return the mean change on the other tasks by training on one alone, by that one; the paper's Figure 3."""
    scores = study.task_scores()
    return {
        source: difference(method, study.base, [score for task, score in scores.items() if task != source])
        for source, method in study.single.items()
        if len(scores) > 1
    }


def transfer_table(study: StudyResults) -> Table:
    """The change of every task by training on one, and its mean over the others."""
    scores, means = study.task_scores(), transfer_to_others(study)
    rows, records = [], []
    for source, method in study.single.items():
        found = {task: difference(method, study.base, [score]) for task, score in scores.items()}
        if source in means:
            found["mean of the others"] = means[source]
        rows.append([source, *(with_interval(one.best, points) for one in found.values())])
        records += [
            {"trained": source, "task": task, **numbers("change", one.prompts), **numbers("over_seeds", one.seeds)}
            for task, one in found.items()
        ]
    note = (
        f"In points; row: the task trained alone. {TRANSFER_SIGN} This is the sign of the paper's Figure 3; its "
        "equation, BWT = base − after, has the opposite one (positive is forgotten), and so has forgetting/<task> in "
        "MLflow. In brackets: 95 % interval over prompts."
    )
    columns = ["trained", *scores, *(["mean of the others"] if means else [])]
    return Table("transfer", "Transfer: change of all tasks by training on one", columns, rows, note, records)


def make_plan(study: StudyResults) -> Plan | None:
    """Predict the final scores of every order; ``None`` unless every task was trained alone."""
    scores = study.task_scores()
    if len(scores) < 2 or set(scores) != set(study.single):
        return None
    sources = [study.base, *(study.single[task] for task in scores)]
    columns = [_by_source(sources, score) for score in scores.values()]  # for each target task, of each source
    base = tuple(column[0] for column in columns)
    after = tuple(tuple(column[j] for column in columns) for j in range(1, len(sources)))
    orders = [method.order for method in study.trained if set(method.order) == set(scores)]
    return plan(TransferScores(tuple(scores), base, after), extra=orders)


def _by_source(sources: Sequence[Method], score: str) -> list[Scores]:
    """Scores of each benchmark on the prompts that all runs have; a single column of means where there are none."""
    components = sources[0].components(score)
    if all(source.components(score) == components for source in sources):
        found = [_on_common_prompts(sources, name) for name in components]
        if all(found):
            return list(zip(*found, strict=True))
    return [(np.array([[value] for value in source.scores[score].values()]),) for source in sources]


def _on_common_prompts(sources: Sequence[Method], score: str) -> list[Array]:
    """For each source, shape (seeds, prompts); empty if one has none."""
    by_seed = [list(source.prompts.get(score, {}).values()) for source in sources]
    if not all(by_seed):
        return []
    uids = sorted(set.intersection(*(set(prompts) for runs in by_seed for prompts in runs)))
    return [np.array([[prompts[uid] for uid in uids] for prompts in runs]) for runs in by_seed] if uids else []


def plan_table(plan: Plan) -> Table:
    """The orders with the highest predicted means."""
    rows = [
        [" → ".join(one.order), with_interval(one.mean), with_interval(one.behind, points), f"{percent(one.best)} %",
         "yes" if one.within_noise else "no"]
        for one in plan.predictions[:_ORDERS]
    ]  # fmt: skip
    records = [
        {
            "order": " > ".join(one.order),
            **numbers("mean", one.mean),
            **numbers("behind", one.behind),
            "best": round(one.best, 4),
            **{f"final_{task}": round(found.value, 6) for task, found in zip(plan.tasks, one.finals, strict=True)},
        }
        for one in plan.predictions
    ]
    columns = ["order", "predicted mean", "behind the best", "best in", "within noise"]
    return Table("plan", "Plan: predicted final scores of each order", columns, rows, plan_note(plan), records)


def plan_note(plan: Plan) -> str:
    """Say how the prediction is made, and how much it can tell apart."""
    total, noise = len(plan.predictions), len(plan.within_noise)
    if noise == total:
        verdict = f"All {total} orders are within noise of each other: nothing here speaks for one of them."
    else:
        verdict = f"{noise} of {total} orders are within noise of the best: the measurements cannot tell them apart."
    searched = "" if plan.exhaustive else " Too many tasks to try all orders: the best was found by local search."
    return (
        "Predicted from single-task runs by the saturation model: final_i = score of i trained alone + sum over later "
        "stages j of the change of i by j (a stage reaches the same score wherever it stands). In percent and points, "
        "with 95 % intervals from a bootstrap of prompts and seeds. best in: share of bootstrap samples in which no "
        "order ends higher. within noise: may be the best at the 5 % level (multiple comparisons with the best). "
        f"{verdict}{searched}"
    )


def prediction_table(study: StudyResults, plan: Plan) -> Table | None:
    """Predicted and actual final scores of the orders that were run; ``None`` if none was."""
    rows, records = [], []
    for name, scores in final_scores_of_orders(study, plan).items():
        for task, predicted, actual in scores:
            error = score_difference(predicted, actual)
            rows.append([name, task, with_interval(predicted), with_interval(actual), with_interval(error, points)])
            about = {"method": name, "task": task}
            records.append({**about, **numbers("predicted", predicted), **numbers("actual", actual)})
    note = (
        "In percent. predicted: 95 % interval of the plan; actual: as in Table 1. Error = actual − predicted in "
        "points, its interval from both; where it excludes 0, the saturation assumption did not hold."
    )
    columns = ["method", "task", "predicted", "actual", "error"]
    return Table("predicted_actual", "Predicted against actual", columns, rows, note, records) if rows else None


def final_scores_of_orders(study: StudyResults, plan: Plan) -> dict[str, list[tuple[str, Estimate, Estimate]]]:
    """Return, of each method that ran one of the orders: task (and ``mean``), predicted and actual final score."""
    predictions = {one.order: one for one in plan.predictions}
    found: dict[str, list[tuple[str, Estimate, Estimate]]] = {}
    for method in study.trained:
        if prediction := predictions.get(method.order):
            finals = {**dict(zip(plan.tasks, prediction.finals, strict=True)), "mean": prediction.mean}
            found[method.name] = [(g, finals[g], mean_score(method, own)) for g, own in study.groups().items()]
    return found


def matrices(study: StudyResults) -> list[tuple[Method, list[ScoreMatrix]]]:
    """Return the score matrices of each method that has them from several seeds and with the same stages."""
    found = [(method, [run.matrix for run in method.runs if run.matrix is not None]) for method in study.trained]
    return [(method, own) for method, own in found if len(own) > 1 and len({one.labels for one in own}) == 1]


def matrix_table(study: StudyResults) -> Table | None:
    """Every method's mean score matrix and what it forgot; ``None`` if no method has several matrices."""
    found = matrices(study)
    if not found:
        return None
    tasks = list(dict.fromkeys(task for _, own in found for task in own[0].tasks))
    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    for method, own in found:
        losses = mean_losses(own, trained_tasks(method, own[0]))
        for index, (label, row) in enumerate([*mean_rows(own).items(), *losses.items()]):
            number = points if label in losses else percent
            cells = [with_interval(row[task], number, 0) if task in row else "" for task in (*tasks, "mean")]
            rows.append(["" if index else method.name, label, *cells])
            about = {"method": method.name, "row": label, "seeds": len(own)}
            records += [{**about, "task": task, **numbers("value", value)} for task, value in row.items()]
    note = (
        f"In percent. {matrix_note(study)} In brackets: 95 % interval over the seeds (Student's t), cut off where "
        f"scores end; -: not measured. {FORGETTING_SIGN} {LOSS_SIGN} Both in points, with the interval of the seeds' "
        "own differences."
    )
    columns = ["method", "row", *tasks, "mean"]
    return Table("score_matrices", "Score matrices: after every stage, all tasks", columns, rows, note, records)


def matrix_note(study: StudyResults) -> str:
    """Say how the scores of the score matrices were sampled."""
    scores = (score for _, own in matrices(study) for one in own for row in one.rows for score in row.values())
    sizes = list({(score.prompts, score.samples) for score in scores})
    if len(sizes) != 1:
        return "Sampled at temperature 1."
    prompts, samples = sizes[0]
    return f"Sampled at temperature 1, {prompts} held-out prompts of each task with {samples} samples each."


def trained_tasks(method: Method, matrix: ScoreMatrix) -> list[list[str]]:
    """Return the tasks of each stage; none where a scheduler put the stages into another order than the config's."""
    stages = next(run.stages for run in method.runs if run.matrix is not None)
    planned = [f"{number} {stage.name}" for number, stage in enumerate(stages, 1)]
    if list(matrix.labels[1:]) != planned[: len(matrix.rows) - 1]:
        return [[] for _ in matrix.rows[1:]]
    return [[task for task, weight in stage.tasks.items() if weight > 0] for stage in stages]
