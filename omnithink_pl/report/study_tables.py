"""The paper's tables, made from a study's runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from omnithink_pl.curriculum.planning import Array, Measured, Plan, Scores, plan
from omnithink_pl.report import paper
from omnithink_pl.report.estimates import Difference, Estimate, difference, has, holm, mean_score
from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.tables import Table, numbers, percent, points, signed

_ALPHA = 0.05


def interval_note(study: StudyResults) -> str:
    """How the intervals of scores were made."""
    if len(study.seeds) > 1:
        return f"In brackets: 95 % interval of the mean over {len(study.seeds)} seeds (Student's t)."
    return "In brackets: 95 % interval over prompts (bootstrap); with one seed, nothing is known of another one."


def measure_note(study: StudyResults) -> str:
    """Which score stands for a task."""
    kinds = {score.partition("/")[2] for score in study.domain_score().values()}
    words = {"": "sampled at temperature 1", "greedy": "greedy", "*": "mean of the domain's benchmarks"}
    return f"Score in percent on held-out prompts, {' and '.join(words[kind] for kind in kinds)}; {sample_note(study)}."


def sample_note(study: StudyResults) -> str:
    """How many seeds and prompts the scores of the tasks rest on."""
    domain = study.domain_score()
    seeds = sorted({len(method.values(score)) for method in study.trained for score in domain.values()} - {0})
    prompts = {task: _prompts(study, score) for task, score in domain.items()}
    number = " to ".join(str(one) for one in dict.fromkeys([*seeds[:1], *seeds[-1:]]))
    said = f"{number} seed{'' if number == '1' else 's'}"
    if not all(prompts.values()):
        return said
    if len(set(prompts.values())) == 1:
        return f"{said}, {next(iter(prompts.values()))} prompts of each task"
    return f"{said}; prompts: {', '.join(f'{task} {count}' for task, count in prompts.items())}"


def _prompts(study: StudyResults, score: str) -> int:
    """The prompts behind a score, of a run that has them; 0 if none has."""
    runs = (
        [len(next(iter(method.prompts[part].values()))) for part in method.parts(score) if method.prompts.get(part)]
        for method in study.methods
    )
    return max((sum(own) for own in runs), default=0)


def table1(study: StudyResults) -> Table:
    """Orders of the same stages against the base model; the paper's Table 1."""
    orders = [method for method in study.trained if len(method.order) > 1]
    methods = [study.base, *orders]
    domain = study.domain_score()
    shared = [task for task in domain if _same_domain(study, task)]
    beside = [method for method in methods if shared and method.paper in _columns(1)]
    columns = ["", *[_heading(method) for method in methods], *[f"paper: {method.paper}" for method in beside]]
    groups = {**{task: [score] for task, score in domain.items()}, "mean": list(domain.values())}
    rows = [
        [
            group,
            *[_score_cell(method, scores) for method in methods],
            *[_printed(1, group, method) if group in shared else "" for method in beside],
        ]
        for group, scores in groups.items()
    ]
    records = [
        {"task": group, "method": method.name, **numbers("score", mean_score(method, scores))}
        for group, scores in groups.items()
        for method in methods
        if has(method, scores)
    ]
    note = f"{measure_note(study)} {interval_note(study)} {_paper_note(bool(shared))}"
    return Table("table1", "Table 1: the order of the stages", columns, rows, note, records)


def _score_cell(method: Method, scores: Sequence[str]) -> str:
    return percent(mean_score(method, scores)) if has(method, scores) else ""


def table2(study: StudyResults) -> Table:
    """Every score by every method; the paper's Table 2."""
    names = list(dict.fromkeys(name for method in study.methods for name in method.scores))
    domains = [*study.tasks, *dict.fromkeys(name.partition("/")[0] for name in names)]
    names.sort(key=lambda name: (domains.index(name.partition("/")[0]), name.count("/"), name))
    shared = [name for name in names if name in paper.table(2).scores]
    columns = [""]
    for method in study.methods:
        columns.append(method.name)
        if shared and method.paper in _columns(2):
            columns.append("paper")
    rows, records = [], []
    for name in names:
        cells = [name]
        for method in study.methods:
            found = mean_score(method, [name]) if has(method, [name]) else None
            cells.append("" if found is None else percent(found))
            if shared and method.paper in _columns(2):
                cells.append(_printed(2, name, method))
            if found is not None:
                values = {f"seed_{seed}": round(value, 6) for seed, value in method.scores[name].items()}
                records.append({"score": name, "method": method.name, **numbers("mean", found), **values})
        rows.append(cells)
    note = (
        "In percent. A task's own name: held-out prompts, sampled at temperature 1; /greedy: the same, greedy; /*: "
        f"mean of its benchmarks. {interval_note(study)} {_paper_note(bool(shared))}"
    )
    doubtful = [f"{name}: {paper.table(2).notes[name]}." for name in shared if name in paper.table(2).notes]
    title = "Table 2: every score by every method"
    return Table("table2", title, columns, rows, " ".join([note, *doubtful]), records)


def reference(study: StudyResults) -> Method:
    """The method that the others are compared with: the first with several stages in an order, else the first."""
    return next((method for method in study.trained if len(method.order) > 1), study.trained[0])


def differences(study: StudyResults) -> Table:
    """The reference against every other method, and in the file all pairs."""
    domain = study.domain_score()
    groups = {**{task: [score] for task, score in domain.items()}, "mean": list(domain.values())}
    first = reference(study)
    others = [method for method in study.methods if method is not first]
    pairs = [(first, other) for other in others] + list(combinations(others, 2))
    found = {
        (one.name, other.name, group): difference(one, other, scores)
        for one, other in pairs
        for group, scores in groups.items()
        if has(one, scores) and has(other, scores)
    }
    shown = [key for key in found if key[0] == first.name and found[key].p is not None]
    adjusted = dict(zip(shown, holm([found[key].p or 0.0 for key in shown]), strict=True))
    rows = [
        [
            other.name,
            *[_cell(found.get((first.name, other.name, g)), adjusted.get((first.name, other.name, g))) for g in groups],
        ]
        for other in others
    ]
    records = [
        {"method": key[0], "other": key[1], "task": key[2], **_record(one), "p_holm": adjusted.get(key, "")}
        for key, one in found.items()
    ]
    title = f"Differences: {first.name} minus every other method"
    return Table("differences", title, ["", *groups], rows, _difference_note(study, len(shown)), records)


def _difference_note(study: StudyResults, tests: int) -> str:
    return (
        f"In points; positive: {reference(study).name} is higher; {sample_note(study)}. In brackets: 95 % interval of "
        "the paired bootstrap over prompts, of these very runs. * : significant at 5 % over prompts, after Holm's "
        f"correction for {tests} comparisons. ** : and the 95 % interval over seeds (Student's t on the paired seeds) "
        "excludes 0 too. Without **, other seeds may turn it round. All pairs are in differences.csv."
    )


def _cell(found: Difference | None, p: float | None) -> str:
    if found is None:
        return ""
    value = found.prompts
    ends = f" ({signed(value.low)} to {signed(value.high)})" if value.known else ""
    return f"{signed(value.value)}{ends}{verdict(found, p)}"


def verdict(found: Difference, p: float | None) -> str:
    """Nothing, `` *`` where it holds over prompts, `` **`` where it holds over seeds too."""
    if p is None or p >= _ALPHA:
        return ""
    return " **" if found.beyond_seeds else " *"


def _record(found: Difference) -> dict[str, float | str]:
    p = "" if found.p is None else round(found.p, 6)
    return {**numbers("difference", found.prompts), **numbers("over_seeds", found.seeds), "p": p}


def _heading(method: Method) -> str:
    return f"{method.name} ({' → '.join(method.order)})" if method.order else method.name


def _columns(number: int) -> set[str | None]:
    return {column for row in paper.table(number).scores.values() for column in row}


def _printed(number: int, name: str, method: Method) -> str:
    value = paper.table(number).scores.get(name, {}).get(method.paper or "")
    return "" if value is None else f"{100 * value:.1f}"


def _same_domain(study: StudyResults, task: str) -> bool:
    """Whether ours is the mean of the very benchmarks that the paper's is."""
    if study.domain_score()[task] != f"{task}/*":
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


TRANSFER_SIGN = "Change = after − base: below 0 is forgotten."
PAPER_SIGN = (
    f"{TRANSFER_SIGN} This is the sign of the paper's Figure 3; its equation, BWT = base − after, has the opposite one "
    "(positive is forgotten), and so has forgetting/<task> in MLflow."
)
_SHOWN = 12  # orders


def transfer_to_others(study: StudyResults) -> dict[str, Difference]:
    """Mean change on the other tasks when training on one alone, by that one; the paper's Figure 3."""
    domain = study.domain_score()
    return {
        source: difference(method, study.base, [score for task, score in domain.items() if task != source])
        for source, method in study.single.items()
        if len(domain) > 1
    }


def transfer_table(study: StudyResults) -> Table:
    """The change on every task when training on one, and its mean over the others."""
    domain, means = study.domain_score(), transfer_to_others(study)
    rows, records = [], []
    for source, method in study.single.items():
        found = {task: difference(method, study.base, [score]) for task, score in domain.items()}
        if source in means:
            found["mean of the others"] = means[source]
        rows.append([source, *[points(best_interval(one)) for one in found.values()]])
        records += [
            {"trained": source, "task": task, **numbers("change", one.prompts), **numbers("over_seeds", one.seeds)}
            for task, one in found.items()
        ]
    note = f"In points; row: the task trained alone. {PAPER_SIGN} In brackets: 95 % interval over prompts."
    columns = ["trained", *domain, *(["mean of the others"] if means else [])]
    return Table("transfer", "Transfer: what training on one task did to all", columns, rows, note, records)


def best_interval(found: Difference) -> Estimate:
    """The interval over prompts; over seeds where scores by prompt are missing."""
    return found.prompts if found.prompts.known else found.seeds


def measured(study: StudyResults) -> Measured | None:
    """What a plan is made of; ``None`` unless every task was trained alone."""
    domain = study.domain_score()
    if len(domain) < 2 or set(domain) != set(study.single):
        return None
    sources = [study.base, *(study.single[task] for task in domain)]
    columns = [_transfer_columns(sources, score) for score in domain.values()]
    base = tuple(column[0] for column in columns)
    after = tuple(tuple(column[1 + j] for column in columns) for j in range(len(domain)))
    return Measured(tuple(domain), base, after)


def _transfer_columns(sources: Sequence[Method], score: str) -> list[Scores]:
    """Scores of each benchmark on the prompts that all runs have; a single column of means where there are none."""
    parts = sources[0].parts(score)
    if all(source.parts(score) == parts for source in sources):
        found = [_on_common_prompts(sources, part) for part in parts]
        if all(found):
            return list(zip(*found, strict=True))
    return [(np.array([[value] for value in source.values(score)]),) for source in sources]


def _on_common_prompts(sources: Sequence[Method], part: str) -> list[Array]:
    """For each source, shape (seeds, prompts); empty if one has none."""
    by_seed = [list(source.prompts.get(part, {}).values()) for source in sources]
    if not all(by_seed):
        return []
    uids = sorted(set.intersection(*(set(prompts) for runs in by_seed for prompts in runs)))
    return [np.array([[prompts[uid] for uid in uids] for prompts in runs]) for runs in by_seed] if uids else []


def make_plan(study: StudyResults) -> Plan | None:
    """The predicted outcome of every order; ``None`` unless every task was trained alone."""
    data = measured(study)
    if data is None:
        return None
    orders = [method.order for method in study.trained if set(method.order) == set(data.tasks)]
    return plan(data, extra=orders)


def plan_table(found: Plan) -> Table:
    """The orders with the highest predicted means."""
    rows = [
        [" → ".join(one.order), percent(Estimate(*one.mean)), points(Estimate(*one.behind)), f"{100 * one.best:.0f} %",
         "yes" if one.within_noise else "no"]
        for one in found.forecasts[:_SHOWN]
    ]  # fmt: skip
    records = [
        {
            "order": " > ".join(one.order),
            **numbers("mean", Estimate(*one.mean)),
            **numbers("behind", Estimate(*one.behind)),
            "best": round(one.best, 4),
            **{f"final_{task}": round(value[0], 6) for task, value in zip(found.tasks, one.finals, strict=True)},
        }
        for one in found.forecasts
    ]
    columns = ["order", "predicted mean", "behind the best", "best in", "within noise"]
    return Table("plan", "Plan: what each order is predicted to end with", columns, rows, plan_note(found), records)


def plan_note(found: Plan) -> str:
    """How the prediction is made, and how much it can tell apart."""
    total, noise = len(found.forecasts), len(found.undecided)
    if noise == total:
        tell = f"All {total} orders are within noise of each other: nothing here speaks for one of them."
    else:
        tell = f"{noise} of {total} orders are within noise of the best: the measurements cannot tell them apart."
    searched = "" if found.exhaustive else " Too many tasks to try all orders: the best was found by local search."
    return (
        "Predicted from single-task runs: final_i = score of i trained alone + sum over later stages j of what j did "
        "to i (saturation assumption: a stage reaches the same score wherever it stands). In percent and points, with "
        "95 % intervals from a bootstrap of prompts and seeds. best in: share of "
        "bootstrap samples in which no order ends higher. within noise: may be the best at the 5 % level (multiple "
        f"comparisons with the best). {tell}{searched}"
    )


def predicted_actual(study: StudyResults, found: Plan) -> Table | None:
    """Predicted and actual final scores of the orders that were run; ``None`` if none was."""
    pairs = came_true(study, found)
    if not pairs:
        return None
    rows, records = [], []
    for name, lines in pairs.items():
        for task, expected, actual in lines:
            rows.append([name, task, percent(expected), percent(actual), points(_error(expected, actual))])
            records.append(
                {"method": name, "task": task, **numbers("predicted", expected), **numbers("actual", actual)}
            )
    note = (
        "In percent. predicted: 95 % interval of the plan; actual: as in Table 1. Error = actual − predicted in "
        "points, its interval from both; where it excludes 0, the saturation assumption did not hold."
    )
    columns = ["method", "task", "predicted", "actual", "error"]
    return Table("predicted_actual", "Predicted against actual", columns, rows, note, records)


def came_true(study: StudyResults, found: Plan) -> dict[str, list[tuple[str, Estimate, Estimate]]]:
    """Of each method that ran one of the orders: task (and ``mean``), predicted and actual final score."""
    domain = study.domain_score()
    lines: dict[str, list[tuple[str, Estimate, Estimate]]] = {}
    for method in study.trained:
        forecast = found.forecast(method.order) if set(method.order) == set(domain) else None
        if forecast is not None:
            finals = dict(zip(found.tasks, forecast.finals, strict=True))
            own = [(task, Estimate(*finals[task]), mean_score(method, [score])) for task, score in domain.items()]
            mean = ("mean", Estimate(*forecast.mean), mean_score(method, list(domain.values())))
            lines[method.name] = [*own, mean]
    return lines


def _error(expected: Estimate, actual: Estimate) -> Estimate:
    """Newcombe's method 10, as for any difference of two independent estimates with intervals."""
    value = actual.value - expected.value
    if not (expected.known and actual.known):
        return Estimate(value)
    down = ((actual.value - actual.low) ** 2 + (expected.high - expected.value) ** 2) ** 0.5
    up = ((actual.high - actual.value) ** 2 + (expected.value - expected.low) ** 2) ** 0.5
    return Estimate(value, value - down, value + up)
