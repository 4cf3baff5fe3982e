"""What training on one task did to the others, what that predicts of orders, and whether it came true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnithink_pl.forecast import Measured, Plan, Scores, plan
from omnithink_pl.planner import Array
from omnithink_pl.report.estimates import Difference, Estimate, difference, mean_score
from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.table import Table, numbers, percent, points

SIGN = "Change = after − base: below 0 is forgotten."
PAPER_SIGN = (
    f"{SIGN} This is the sign of the paper's Figure 3; its equation, BWT = base − after, has the opposite one "
    "(positive is forgotten), and so has forgetting/<task> in MLflow."
)
_SHOWN = 12  # orders


def backward_transfer(study: StudyResults) -> dict[str, Difference]:
    """Mean change on the other tasks when training on one alone, by that one; the paper's Figure 3."""
    domain = study.domain_score()
    return {
        source: difference(method, study.base, [score for task, score in domain.items() if task != source])
        for source, method in study.single.items()
        if len(domain) > 1
    }


def transfer_table(study: StudyResults) -> Table:
    """The change on every task when training on one, and its mean over the others."""
    domain, means = study.domain_score(), backward_transfer(study)
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
    columns = [_columns(sources, score) for score in domain.values()]
    base = tuple(column[0] for column in columns)
    after = tuple(tuple(column[1 + j] for column in columns) for j in range(len(domain)))
    return Measured(tuple(domain), base, after)


def _columns(sources: Sequence[Method], score: str) -> list[Scores]:
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
