"""The verbs ``report``, a study's tables and figures, and ``plan``, a curriculum from its single-task runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as ConsoleTable

from omnithink_pl.curriculum.planning import Plan
from omnithink_pl.errors import BadInput
from omnithink_pl.report.format import points, with_interval
from omnithink_pl.report.output import Section, Table, html_page, png, write_files
from omnithink_pl.report.results import StudyReader, StudyResults
from omnithink_pl.report.study_figures import (
    errors_figure,
    format_figure,
    gains_figure,
    matrix_figures,
    orders_figure,
    study_curves_figure,
    transfer_figure,
    transfer_matrix_figure,
)
from omnithink_pl.report.study_tables import (
    difference_table,
    make_plan,
    matrix_table,
    method_table,
    order_table,
    plan_note,
    plan_table,
    prediction_table,
    transfer_table,
)


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
        """Make the report, and print its paths.

        Raises:
            BadInput: If the folder cannot be written.
        """
        console = Console()
        reader = StudyReader(self.uri, self.name)
        with console.status("Reading the runs"):
            study = reader.read()
        with console.status("Drawing"):
            page = build_report(study, self.uri)
            files = page.files()
        write_files(files, self.output)
        with console.status("Storing"):
            reader.artifacts.folder(self.output, "report")
        for warning in page.warnings:
            console.print(warning, style="yellow", highlight=False)
        console.print(f"{self.output / 'report.html'}\n{self.output / 'report.md'}", highlight=False, soft_wrap=True)
        console.print("also in the study's run in MLflow, artifacts report/", highlight=False)


class PlanCurriculum:
    """Derives a curriculum from a study's single-task runs, and writes its config.

    Args:
        study: The study's file, or its name; every task must have been trained alone.
        output: Folder for the config ``curriculum.yaml``, tables and figures; one in the study's own if not given.
        tracking_uri: Where the study is stored; that of the study's file if not given.
        name: Kind of run in the config.
    """

    def __init__(
        self, study: str, output: str | None = None, tracking_uri: str | None = None, name: str = "planned"
    ) -> None:
        self.name, self.uri, folder = find_study_settings(study, tracking_uri)
        self.output = Path(output) if output else folder / self.name / "plan"
        self.kind = name

    def run(self) -> None:
        """Predict, print the result, and write the config.

        Raises:
            BadInput: If a task was not trained alone.
        """
        console = Console()
        reader = StudyReader(self.uri, self.name)
        with console.status("Reading the runs"):
            study = reader.read()
        plan = make_plan(study)
        if plan is None:
            raise BadInput(
                f"study {self.name!r}: a plan needs finished runs that train one task alone, for every task; it has "
                f"{sorted(study.single) or 'none'} of {study.tasks}"
            )
        tables = [transfer_table(study), plan_table(plan)]
        files: dict[str, str | bytes] = {f"{table.key}.csv": table.csv() for table in tables}
        files["plan.md"] = "\n".join(table.markdown() for table in tables)
        files["plan.json"] = json.dumps(asdict(plan), indent=2)
        files["transfer_matrix.png"] = png(transfer_matrix_figure(plan))
        files["orders.png"] = png(orders_figure(study, plan))
        files["curriculum.yaml"] = curriculum_config(study, plan, self.kind)
        write_files(files, self.output)
        reader.artifacts.folder(self.output, "plan")
        for table in tables:
            console.print(_console_table(table))
        console.print(f"{plan_note(plan)} Intervals: {self.output / 'plan.md'}", highlight=False)
        config = self.output / "curriculum.yaml"
        console.print(f"\npython main.py fit --config {config}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class ReportPage:
    """The contents of a report, in order."""

    title: str
    made: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]

    def files(self) -> dict[str, str | bytes]:
        """Return every file of the report, by name."""
        found: dict[str, str | bytes] = {}
        for section in self.sections:
            if isinstance(section, Table):
                found[f"{section.key}.csv"] = section.csv()
            else:
                found[f"{section[0]}.png"] = png(section[2])
        found["report.md"] = self.markdown()
        found["report.html"] = html_page(self.title, self.made, self.warnings, self.sections)
        return found

    def markdown(self) -> str:
        """Return the report as Markdown, with its figures as files beside it."""
        blocks = [f"# {self.title}", self.made, *(f"**{warning}**" for warning in self.warnings)]
        blocks += [
            section.markdown() if isinstance(section, Table) else f"![{section[1]}]({section[0]}.png)"
            for section in self.sections
        ]
        return "\n\n".join(block.strip() for block in blocks) + "\n"


def build_report(study: StudyResults, source: str) -> ReportPage:
    """Make all tables and figures that the study's runs allow."""
    plan = make_plan(study)
    sections: list[Section | None] = [
        order_table(study),
        ("figure1", "Figure 1: gain by task and method", gains_figure(study)),
        difference_table(study),
        method_table(study),
        _titled("figure2", "Figure 2: form of the answer", format_figure(study)),
        _titled("figure3", "Figure 3: backward transfer", transfer_figure(study)),
        transfer_table(study) if study.single else None,
    ]
    if plan is not None:
        sections += [
            ("transfer_matrix", "Transfer matrix", transfer_matrix_figure(plan)),
            plan_table(plan),
            ("orders", "Orders: predicted and actual", orders_figure(study, plan)),
            prediction_table(study, plan),
            _titled("errors", "Predicted against actual, by task", errors_figure(study, plan)),
        ]
    sections += [
        _titled("learning_curves", "Learning curves", study_curves_figure(study)),
        matrix_table(study),
        *matrix_figures(study),
    ]
    runs, seeds = sum(len(method.runs) for method in study.methods), ", ".join(map(str, study.seeds))
    made = f"{runs} finished runs, seeds {seeds}; {source}; {time.strftime('%Y-%m-%d %H:%M')}."
    kept = tuple(section for section in sections if section is not None)
    return ReportPage(f"Study {study.name}", made, tuple(_warnings(study)), kept)


def _warnings(study: StudyResults) -> list[str]:
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


def _titled(key: str, title: str, figure: Figure | None) -> Section | None:
    return None if figure is None else (key, title, figure)


def curriculum_config(study: StudyResults, plan: Plan, kind: str) -> str:
    """Return the config of the order with the best prediction; each stage is as long as the task's own run."""
    best = plan.predictions[0]
    steps = {
        task: max(run.stages[0].steps for run in method.runs if run.stages) for task, method in study.single.items()
    }
    stages = [{"tasks": {task: 1}, "steps": steps[task]} for task in best.order]
    lines = [
        f"Planned from the single-task runs of the study {study.name}.",
        f"Predicted mean of the final scores: {with_interval(best.mean)} percent.",
        *(
            f"Predicted for {task}: {with_interval(f)} percent."
            for task, f in zip(plan.tasks, best.finals, strict=True)
        ),
        f"Orders within noise of this one: {len(plan.within_noise) - 1} of {len(plan.predictions) - 1}.",
    ]
    if len(plan.predictions) > 1:
        lines.append(
            f"The last of all orders is behind by {with_interval(plan.predictions[-1].behind, points)} points."
        )
    head = "".join(f"# {line}\n" for line in lines)
    return head + yaml.safe_dump({"name": kind, "curriculum": {"stages": stages}}, sort_keys=False)


def _console_table(table: Table) -> ConsoleTable:
    """The table without the intervals, for which a terminal is too narrow."""
    shown = ConsoleTable(title=table.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in table.rows:
        shown.add_row(*[cell.partition(" (")[0] for cell in row])
    return shown


def find_study_settings(study: str, uri: str | None) -> tuple[str, str, Path]:
    """Return name, store and output folder of a study that is given by its file or its name.

    Raises:
        BadInput: If the file cannot be read.
    """
    settings: Mapping[str, Any] = {}
    if study.endswith((".yaml", ".yml")):
        try:
            settings = yaml.safe_load(Path(study).read_text())
            study = str(settings["name"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BadInput(f"study: {study} is no study's file ({error}); give one, or the study's name") from error
    store = uri or str(settings.get("tracking_uri", "sqlite:///mlflow.db"))
    return study, store, Path(str(settings.get("output", "outputs")))
