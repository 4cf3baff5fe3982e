"""The verbs ``report``, a study's tables and figures, and ``plan``, a curriculum from its single-task runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Column
from rich.table import Table as ConsoleTable

from omnithink_pl.curriculum.planning import OrderPrediction, Plan
from omnithink_pl.errors import BadInput
from omnithink_pl.report import plan_tables as plans
from omnithink_pl.report import study_figures as figures
from omnithink_pl.report import study_tables as tables
from omnithink_pl.report import transfer_tables as transfer
from omnithink_pl.report.output import Section, Table, html_page, points, with_interval, write_files
from omnithink_pl.report.results import StudyReader, StudyResults
from omnithink_pl.tracking.store import find_store


class Report:
    """Makes the tables and figures of a study from its runs in MLflow, and stores them there too.

    Args:
        study: The study's file, or its name.
        output: Folder for the files; one in the study's own if not given.
        tracking_uri: Where the study is stored; that of the study's file if not given.
    """

    def __init__(self, study: str, output: str | None = None, tracking_uri: str | None = None) -> None:
        self.name, self.uri, folder = find_study_settings(study, tracking_uri)
        self.output = Path(output) if output else folder / self.name / "report"

    def run(self) -> None:
        """Make the report, and print its paths."""
        console = Console()
        reader = StudyReader(self.uri, self.name)
        with console.status("Reading the runs"):
            study = reader.read()
        warnings = find_warnings(study)
        with console.status("Drawing"):
            files = report_files(study, self.uri, warnings)
        write_files(files, self.output)
        with console.status("Storing"):
            reader.artifacts.folder(self.output, "report")
        for warning in warnings:
            console.print(warning, style="yellow", highlight=False)
        console.print(f"{self.output / 'report.html'}\n{self.output / 'report.md'}", highlight=False, soft_wrap=True)
        console.print("also in the study's run in MLflow, artifacts report/", highlight=False)


class PlanCurriculum:
    """Derives curricula from a study's single-task runs, by the saturation model and by the paper's rule.

    Args:
        study: The study's file, or its name; every task must have been trained alone.
        output: Folder for tables, figures and the configs ``curriculum.yaml`` (the saturation model's order) and
            ``least_forgettable.yaml`` (the paper's); one in the study's own if not given.
        tracking_uri: Where the study is stored; that of the study's file if not given.
        name: Kind of run in ``curriculum.yaml``.
    """

    def __init__(
        self, study: str, output: str | None = None, tracking_uri: str | None = None, name: str = "planned"
    ) -> None:
        self.name, self.uri, folder = find_study_settings(study, tracking_uri)
        self.output = Path(output) if output else folder / self.name / "plan"
        self.kind = name

    def run(self) -> None:
        """Predict, print the result, and write the config; every task must have been trained alone."""
        console = Console()
        reader = StudyReader(self.uri, self.name)
        with console.status("Reading the runs"):
            study = reader.read()
        plan = plans.make_plan(study)
        if plan is None:
            raise BadInput(
                f"study {self.name!r}: a plan needs finished runs that train one task alone, for every task; it has "
                f"{sorted(study.single) or 'none'} of {study.tasks}"
            )
        shown = [transfer.transfer_table(study), transfer.forgettability_table(study), plans.plan_table(plan)]
        sections: list[Section] = [*shown, figures.transfer_matrix_figure(plan), figures.orders_figure(study, plan)]
        files: dict[str, str | bytes] = dict(section.file() for section in sections)
        files["plan.md"] = "\n".join(table.markdown() for table in shown)
        files["plan.json"] = json.dumps(asdict(plan), indent=2)
        files["curriculum.yaml"] = curriculum_config(study, plan, plan.predictions[0], self.kind)
        files["least_forgettable.yaml"] = curriculum_config(study, plan, plan.by_paper, "least_forgettable")
        write_files(files, self.output)
        reader.artifacts.folder(self.output, "plan")
        for table in shown:
            console.print(_console_table(table))
        console.print(f"{plans.plan_note(plan)} Intervals: {self.output / 'plan.md'}", highlight=False)
        console.print(f"\n{plans.rule_note(plan)}\n", highlight=False)
        for name, chosen in (("curriculum", "the saturation model"), ("least_forgettable", "the paper's rule")):
            command = f"python main.py fit --config {self.output / name}.yaml  # the order by {chosen}"
            console.print(command, highlight=False, soft_wrap=True)


def report_files(study: StudyResults, source: str, warnings: Sequence[str]) -> dict[str, str | bytes]:
    """Return every file of the report, by name."""
    sections = _sections(study)
    runs, seeds = sum(len(method.runs) for method in study.methods), ", ".join(map(str, study.seeds))
    made = f"{runs} finished runs, seeds {seeds}; {source}; {time.strftime('%Y-%m-%d %H:%M')}."
    blocks = [f"# Study {study.name}", made, *(f"**{warning}**" for warning in warnings)]
    blocks += [section.markdown().strip() for section in sections]
    return {
        **dict(section.file() for section in sections),
        "report.md": "\n\n".join(blocks) + "\n",
        "report.html": html_page(f"Study {study.name}", made, warnings, sections),
    }


def _sections(study: StudyResults) -> list[Section]:
    """All tables and figures that the study's runs allow, in order."""
    plan = plans.make_plan(study)
    sections: list[Section | None] = [
        tables.order_table(study),
        figures.gains_figure(study),
        tables.difference_table(study),
        tables.gain_table(study),
        tables.method_table(study),
        figures.format_figure(study),
        figures.transfer_figure(study),
        transfer.transfer_table(study) if study.single else None,
        transfer.forgettability_table(study) if len(study.single) > 1 else None,
    ]
    if plan is not None:
        sections += [
            figures.transfer_matrix_figure(plan),
            plans.plan_table(plan),
            figures.orders_figure(study, plan),
            plans.prediction_table(study, plan),
            figures.errors_figure(study, plan),
        ]
    sections += [figures.study_curves_figure(study), tables.matrix_table(study), *figures.matrix_figures(study)]
    return [section for section in sections if section is not None]


def find_warnings(study: StudyResults) -> list[str]:
    """Return what a reader must know before any number."""
    found = []
    if study.missing:
        found.append(f"Not finished, and therefore not included: {', '.join(study.missing)}.")
    if len(study.seeds) < 3:
        found.append("Fewer than three seeds: differences between methods may be differences between seeds.")
    scores = set(study.task_scores().values())
    lacking = [method.name for method in study.methods if not scores <= set(method.scores)]
    if lacking:
        found.append(
            f"No score of one kind for all tasks and methods; {', '.join(lacking)} are left out where they lack it."
        )
    elif {score.partition("/")[2] for score in scores} == {"greedy"}:
        found.append("Methods are compared by greedy scores, the only ones that all of them have.")
    return found


def curriculum_config(study: StudyResults, plan: Plan, chosen: OrderPrediction, kind: str) -> str:
    """Return the config of one of the orders; each stage is as long as the task's own run."""
    steps = {
        task: max(run.stages[0].steps for run in method.runs if run.stages) for task, method in study.single.items()
    }
    stages = [{"tasks": {task: 1}, "steps": steps[task]} for task in chosen.order]
    finals = zip(plan.tasks, chosen.finals, strict=True)
    lines = [
        f"Planned from the single-task runs of the study {study.name}.",
        f"Predicted mean of the final scores: {with_interval(chosen.mean)} percent.",
        *(f"Predicted for {task}: {with_interval(final)} percent." for task, final in finals),
        f"Orders within noise of the best one: {len(plan.within_noise) - 1} of {len(plan.predictions) - 1}.",
    ]
    if chosen is not plan.predictions[0]:
        lines.append(f"It is behind the best one by {with_interval(chosen.behind, points)} points.")
    last = plan.predictions[-1]
    if last is not plan.predictions[0]:
        lines.append(f"The last of all orders is behind by {with_interval(last.behind, points)} points.")
    head = "".join(f"# {line}\n" for line in lines)
    return head + yaml.safe_dump({"name": kind, "curriculum": {"stages": stages}}, sort_keys=False)


def _console_table(table: Table) -> ConsoleTable:
    """The table without the intervals, for which a terminal is too narrow."""
    columns = (Column(name, justify="right") for name in table.columns[1:])
    style: Any = {"title_justify": "left", "title_style": "bold", "box": None, "pad_edge": False}
    shown = ConsoleTable(Column(table.columns[0], no_wrap=True), *columns, title=table.title, **style)
    for row in table.rows:
        shown.add_row(*[cell.partition(" (")[0] for cell in row])
    return shown


def find_study_settings(study: str, uri: str | None) -> tuple[str, str, Path]:
    """Return name, store and output folder of a study that is given by its file or its name."""
    settings: Mapping[str, Any] = {}
    if study.endswith((".yaml", ".yml")):
        try:
            settings = yaml.safe_load(Path(study).read_text())
            study = str(settings["name"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BadInput(f"study: {study} is no study's file ({error}); give one, or the study's name") from error
    return study, find_store(uri or settings.get("tracking_uri")), Path(str(settings.get("output", "outputs")))
