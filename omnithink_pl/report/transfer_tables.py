"""What training on one task does to the others, and what the others do to it; both axes, beside the paper's."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from omnithink_pl.curriculum.forgettability import does_to_others as row_means
from omnithink_pl.curriculum.forgettability import others_do_to as column_means
from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.report import paper
from omnithink_pl.report.estimates import Difference, average, difference, has
from omnithink_pl.report.output import Table, numbers, points, with_interval
from omnithink_pl.report.results import StudyResults
from omnithink_pl.report.study_tables import same_domain

TRANSFER_SIGN = "Change = after − base: below 0 is forgotten."
CAUSE, VICTIM = "does to the others", "the others do to it"


def does_to_others(study: StudyResults) -> dict[str, Difference]:
    """Return the mean change of the other tasks by training on one alone, by that one: a task as the cause."""
    scores = study.task_scores()
    return {
        source: difference(method, study.base, [score for task, score in scores.items() if task != source])
        for source, method in study.single.items()
        if len(scores) > 1
    }


def others_do_to(study: StudyResults) -> dict[str, Difference]:
    """Return the mean change of each task over the runs that trained another one alone: a task as the victim."""
    found: dict[str, Difference] = {}
    for task, score in study.task_scores().items():
        others = [method for source, method in study.single.items() if source != task and has(method, [score])]
        if not others:
            continue
        pooled = average(others, score)
        if has(pooled, [score]):
            found[task] = difference(pooled, study.base, [score])
        else:  # no seed in common
            value = Estimate(fmean(difference(other, study.base, [score]).seeds.value for other in others))
            found[task] = Difference(value, value, None)
    return found


def transfer_table(study: StudyResults) -> Table:
    """The change of every task by training on one, and its means over both axes."""
    scores, causes, victims = study.task_scores(), does_to_others(study), others_do_to(study)
    changes = {
        source: {task: difference(method, study.base, [score]) for task, score in scores.items()}
        | ({"mean of the others": causes[source]} if source in causes else {})
        for source, method in study.single.items()
    }
    changes["mean of the other runs"] = victims
    columns = ["trained", *scores, *(["mean of the others"] if causes else [])]
    rows = [
        [source, *(with_interval(found[name].best, points) if name in found else "" for name in columns[1:])]
        for source, found in changes.items()
    ]
    records = [
        {"trained": source, "task": task, **numbers("change", one.prompts), **numbers("over_seeds", one.seeds)}
        for source, found in changes.items()
        for task, one in found.items()
    ]
    note = (
        f"In points; row: the task trained alone. The last column is what a task {CAUSE}, the last row what {VICTIM}: "
        f"the mean over the runs that trained another one. {TRANSFER_SIGN} This is the sign of the paper's Figure 3; "
        "its equation, BWT = base − after, has the opposite one (positive is forgotten), and so has forgetting/<task> "
        "in MLflow. In brackets: 95 % interval over prompts."
    )
    return Table("transfer", "Transfer: change of all tasks by training on one", columns, rows, note, records)


def forgettability_table(study: StudyResults) -> Table:
    """Both means of each task, the least forgettable first, beside the paper's where the benchmarks are the same."""
    causes, victims = does_to_others(study), others_do_to(study)
    order = sorted(victims, key=lambda task: -victims[task].best.value)
    printed = {task: paper_transfer()[task] for task in order if task in paper.DOMAINS and same_domain(study, task)}
    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    for task in order:
        means = {"does_to_others": causes.get(task), "others_do_to": victims[task]}
        cells = [with_interval(one.best, points) if one else "" for one in means.values()]
        records.append({"task": task})
        for name, one in means.items():
            records[-1] |= numbers(name, one.prompts) if one else {}
        if printed:
            cause, victim = printed.get(task, (None, None))
            cells += ["" if value is None else points(value, 2) for value in (cause, victim)]
            cells.append(paper.printed_forgettability(task) if task in printed else "")
        rows.append([task, *cells])
    columns = [
        "task",
        CAUSE,
        VICTIM,
        *([f"paper: {CAUSE}", f"paper: {VICTIM}", "paper, as printed"] if printed else []),
    ]
    note = (
        "In points, the mean over the other tasks and over the other runs; the least forgettable task first: the "
        f"order that the paper trains in. {TRANSFER_SIGN} {paper_note()} In brackets: 95 % interval over prompts."
    )
    return Table(
        "forgettability", "Forgettability: a task as the cause, and as the victim", columns, rows, note, records
    )


def paper_transfer() -> dict[str, tuple[float, float]]:
    """Return, by domain, both means of the paper's Table 2: what it does to the others, and what they do to it."""
    effects = paper.transfer()
    return {
        domain: (float(cause), float(victim))
        for domain, cause, victim in zip(paper.DOMAINS, row_means(effects), column_means(effects), strict=True)
    }


def paper_note() -> str:
    """Say which of the two the paper means, with its arithmetic."""
    found = paper_transfer()
    cause, victim = (", ".join(f"{domain} {points(pair[n], 2)}" for domain, pair in found.items()) for n in (0, 1))
    said = ", ".join(f"{domain} {paper.printed_forgettability(domain)}" for domain in found)
    return (
        f"The paper contradicts itself: the caption of its Figure 3 describes what a task {CAUSE}, which its Table 2 "
        f"gives as {cause}; the numbers of its section 5.3 ({said}) and its order are those of what {VICTIM}: {victim}."
    )
