"""Tables of the planned orders: predicted from single-task runs, by the paper's rule, and what came true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnithink_pl.curriculum.forgettability import Array
from omnithink_pl.curriculum.planning import OrderPrediction, Plan, Scores, TransferScores, plan
from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.curriculum.score_matrix import difference as score_difference
from omnithink_pl.report.estimates import mean_score
from omnithink_pl.report.output import Table, numbers, percent, points, with_interval
from omnithink_pl.report.results import Method, StudyResults

_ORDERS = 12  # shown


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
    """The orders with the highest predicted means, and the paper's."""
    shown = list(plan.predictions[:_ORDERS])
    shown += [] if plan.by_paper in shown else [plan.by_paper]
    rows = [
        [" → ".join(one.order), with_interval(one.mean), with_interval(one.behind, points), f"{percent(one.best)} %",
         "yes" if one.within_noise else "no", _chosen_by(plan, one)]
        for one in shown
    ]  # fmt: skip
    records = [
        {
            "order": " > ".join(one.order),
            **numbers("mean", one.mean),
            **numbers("behind", one.behind),
            "best": round(one.best, 4),
            "chosen_by": _chosen_by(plan, one),
            **{f"final_{task}": round(found.value, 6) for task, found in zip(plan.tasks, one.finals, strict=True)},
        }
        for one in plan.predictions
    ]
    columns = ["order", "predicted mean", "behind the best", "best in", "within noise", "chosen by"]
    note = f"{plan_note(plan)} {rule_note(plan)}"
    return Table("plan", "Plan: predicted final scores of each order", columns, rows, note, records)


def _chosen_by(plan: Plan, one: OrderPrediction) -> str:
    rules = {"saturation model": plan.predictions[0], "paper's rule": plan.by_paper}
    return ", ".join(rule for rule, chosen in rules.items() if chosen.order == one.order)


def rule_note(plan: Plan) -> str:
    """Set the paper's order beside the saturation model's, and say what the intervals carry of it."""
    rule, best, own = plan.forgettability, plan.predictions[0], plan.by_paper
    text = f"The paper's rule, from the least to the most forgettable task (see there), gives {' → '.join(rule.order)}"
    if own.order == best.order:
        text += ": the saturation model chooses the same order."
    else:
        place = next(n for n, (a, b) in enumerate(zip(rule.order, best.order, strict=True), 1) if a != b)
        text += (
            f"; the saturation model chooses {' → '.join(best.order)}. They differ from place {place} on, and the "
            f"model puts the paper's order {points(-own.behind.value, 1).lstrip('+')} points behind its own, "
            f"{'within' if own.within_noise else 'beyond'} noise."
        )
    pairs = ", ".join(" and ".join(pair) for pair in rule.undecided)
    carried = f"the 95 % intervals do not tell apart {pairs}" if pairs else "the 95 % intervals carry every place in it"
    return f"{text} Of the paper's order {carried}; {percent(rule.agreement)} % of the bootstrap samples give it."


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
