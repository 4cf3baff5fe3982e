"""The verb ``plan``: the order of stages that single-task runs predict to end best, as a config."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table as Shown

from omnithink_pl.curriculum.planning import Plan
from omnithink_pl.errors import BadInput
from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.plan_figures import matrix_figure, orders_figure
from omnithink_pl.report.results import StudyResults
from omnithink_pl.report.study_report import find, write
from omnithink_pl.report.study_store import StudyStore
from omnithink_pl.report.study_tables import make_plan, plan_note, plan_table, transfer_table
from omnithink_pl.report.tables import Table, percent, png, points

_FOLDER = "plan"  # of the artifacts


class PlanCurriculum:
    """Derives a curriculum from a study's single-task runs, and writes its config.

    Args:
        study: The study's file, or its name; every task must have been trained alone.
        output: Folder for the config ``curriculum.yaml`` and what led to it; one in the study's own if not given.
        tracking_uri: Where the study is stored; that of the study's file if not given.
        name: Kind of run in the config.
    """

    def __init__(
        self, study: str, output: str | None = None, tracking_uri: str | None = None, name: str = "planned"
    ) -> None:
        self.name, self.uri, folder = find(study, tracking_uri)
        self.output = Path(output) if output else folder / self.name / "plan"
        self.kind = name

    def run(self) -> None:
        """Plan, print what came of it, and write the config.

        Raises:
            BadInput: If a task was not trained alone.
        """
        console = Console()
        store = StudyStore(self.uri, self.name)
        with console.status("Reading the runs"):
            study = store.read()
        plan = make_plan(study)
        if plan is None:
            raise BadInput(
                f"study {self.name!r}: a plan needs finished runs that train one task alone, for every task; it has "
                f"{sorted(study.single) or 'none'} of {study.tasks}"
            )
        write(plan_files(study, plan, self.kind), self.output)
        store.artifacts.folder(self.output, _FOLDER)
        for table in (transfer_table(study), plan_table(plan)):
            console.print(_shown(table))
        console.print(f"{plan_note(plan)} Intervals: {self.output / 'plan.md'}", highlight=False)
        config = self.output / "curriculum.yaml"
        console.print(f"\npython main.py fit --config {config}", highlight=False, soft_wrap=True)


def plan_files(study: StudyResults, plan: Plan, kind: str) -> dict[str, str | bytes]:
    """Config, tables, figures and numbers of a plan, by name of the file."""
    tables = [transfer_table(study), plan_table(plan)]
    files: dict[str, str | bytes] = {f"{table.key}.csv": table.csv() for table in tables}
    files["plan.md"] = "\n".join(table.markdown() for table in tables)
    files["plan.json"] = json.dumps(asdict(plan), indent=2)
    files["transfer_matrix.png"] = png(matrix_figure(plan))
    files["orders.png"] = png(orders_figure(plan, {}))
    files["curriculum.yaml"] = curriculum_config(study, plan, kind)
    return files


def curriculum_config(study: StudyResults, plan: Plan, kind: str) -> str:
    """The config of the order that is predicted to end best; each stage as long as the task's own run."""
    best = plan.forecasts[0]
    steps = {
        task: max(run.stages[0].steps for run in method.runs if run.stages) for task, method in study.single.items()
    }
    stages = [{"tasks": {task: 1}, "steps": steps[task]} for task in best.order]
    lines = [
        f"Planned from the single-task runs of the study {study.name}.",
        f"Predicted mean of the final scores: {percent(Estimate(*best.mean))} percent.",
        *[
            f"Predicted for {task}: {percent(Estimate(*value))} percent."
            for task, value in zip(plan.tasks, best.finals, strict=True)
        ],
        f"Orders within noise of this one: {len(plan.undecided) - 1} of {len(plan.forecasts) - 1}.",
    ]
    if len(plan.forecasts) > 1:
        lines.append(f"The last of all orders is behind by {points(Estimate(*plan.forecasts[-1].behind))} points.")
    head = "".join(f"# {line}\n" for line in lines)
    return head + yaml.safe_dump({"name": kind, "curriculum": {"stages": stages}}, sort_keys=False)


def _shown(table: Table) -> Shown:
    shown = Shown(title=table.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in table.rows:  # without the intervals, for which a terminal is too narrow
        shown.add_row(*[cell.partition(" (")[0] for cell in row])
    return shown
