"""Tables of a study: the paper's, differences between methods and relative gains, mean score matrices."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.report import paper
from omnithink_pl.report.estimates import (
    Difference,
    difference,
    has,
    holm,
    mean_losses,
    mean_rows,
    mean_score,
    relative_gain,
)
from omnithink_pl.report.output import Table, numbers, percent, points, with_interval
from omnithink_pl.report.results import Method, StudyResults

FORGETTING_SIGN = "forgotten = base − last row, the paper's sign: above 0 is forgotten, below 0 learned."
LOSS_SIGN = "lost since its stage = after that stage − last row: above 0 is lost."
_ALPHA = 0.05


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
    shared = [task for task in study.task_scores() if same_domain(study, task)]
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
    domains_shared = {f"{task}/*" for task in study.tasks if same_domain(study, task)}
    printed = {method.name for method in study.methods if shared and method.paper in _columns(2)}
    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    for name in names:
        cells = [name]
        for method in study.methods:
            found = mean_score(method, [name]) if has(method, [name]) else None
            cells.append("" if found is None else with_interval(found))
            if method.name in printed:
                cells.append(_printed(2, name, method) if name in {*shared, *domains_shared} else "")
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


def reference_method(study: StudyResults) -> Method:
    """Return what the others are compared with: the first method with several stages in an order, else the first."""
    return next((method for method in study.trained if len(method.order) > 1), study.trained[0])


def difference_table(study: StudyResults) -> Table:
    """The reference method against every other; all pairs in the CSV."""
    groups = study.groups()
    first = reference_method(study)
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


def gain_table(study: StudyResults) -> Table:
    """The reference method's relative gain over every other: a / b - 1, by task and as the paper's headline has it."""
    first, groups = reference_method(study), study.groups()
    others = [method for method in study.methods if method is not first]
    found = {
        (other.name, group): relative_gain(first, other, scores)
        for other in others
        for group, scores in groups.items()
        if has(first, scores) and has(other, scores)
    }
    domains = {task for task in study.tasks if same_domain(study, task)}
    beside = first.paper == "curriculum" and domains == {*paper.DOMAINS}
    rows = []
    for other in others:
        cells = [found.get((other.name, group)) for group in groups]
        shown = ["" if one is None else with_interval(one.best, points) for one in cells]
        rows.append([other.name, *shown, *([_headline(other)] if beside else [])])
    records = [
        {
            "method": first.name,
            "other": other,
            "task": task,
            **numbers("gain", one.prompts),
            **numbers("over_seeds", one.seeds),
        }
        for (other, task), one in found.items()
    ]
    joint, merging = (100 * paper.relative_gain("curriculum", other) for other in ("joint", "merging"))
    note = (
        f"In percent of the other method's score: a / b − 1, and its mean over the tasks; {sample_note(study)}. A "
        "small b makes much of few points. In brackets: 95 % interval of the paired bootstrap over prompts, of these "
        f"very runs. The paper's headline is this mean: it prints {paper.printed_gain('joint')} % over joint training "
        f"and {paper.printed_gain('merging')} % over merging; its Table 2 gives {joint:.2f} and {merging:.2f}."
    )
    columns = ["", *groups, *(["paper, mean"] if beside else [])]
    return Table(
        "relative_gains", f"Relative gains of {first.name} over every other method", columns, rows, note, records
    )


def _headline(other: Method) -> str:
    """The paper's gain over a method, recomputed, and as it is printed."""
    if other.paper in (None, "curriculum") or other.paper not in paper.domain_scores()["code"]:
        return ""
    printed = paper.printed_gain(str(other.paper))
    value = points(paper.relative_gain("curriculum", str(other.paper)), 2)
    return f"{value} (printed {printed})" if printed else value


def _starred(found: Difference, p: float | None) -> str:
    """A difference with one star if it is significant over prompts, two if over seeds too."""
    stars = "" if p is None or p >= _ALPHA else " *" if found.seeds.low <= 0.0 <= found.seeds.high else " **"
    return with_interval(found.prompts, points) + stars


def _columns(number: int) -> set[str | None]:
    return {column for row in paper.scores(number).values() for column in row}


def _printed(number: int, name: str, method: Method) -> str:
    domain = name.removesuffix("/*") if number == 2 else ""  # Table 2 prints no domain scores: they are recomputed
    row = paper.domain_scores().get(domain) or paper.scores(number).get(name, {})
    value = row.get(method.paper or "")
    return "" if value is None else percent(value, 1)


def same_domain(study: StudyResults, task: str) -> bool:
    """Whether our score is the mean of the same benchmarks as the paper's."""
    if study.task_scores().get(task) != f"{task}/*":
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
