"""The verb ``report``: a study's tables and figures, from MLflow alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from rich.console import Console

from omnithink_pl.curriculum.planning import Plan
from omnithink_pl.errors import BadInput
from omnithink_pl.report.estimates import mean_score
from omnithink_pl.report.plan_figures import errors_figure, matrix_figure, orders_figure
from omnithink_pl.report.results import StudyResults
from omnithink_pl.report.study_figures import (
    format_figure,
    gains_figure,
    matrix_figures,
    matrix_table,
    study_curves_figure,
    transfer_figure,
)
from omnithink_pl.report.study_store import StudyStore
from omnithink_pl.report.study_tables import (
    came_true,
    differences,
    make_plan,
    plan_table,
    predicted_actual,
    table1,
    table2,
    transfer_table,
)
from omnithink_pl.report.tables import Section, Table, html_page, png

_FOLDER = "report"  # of the artifacts


@dataclass(frozen=True)
class Parts:
    """What a report is made of, in its order."""

    title: str
    made: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return [section for section in self.sections if isinstance(section, Table)]

    @property
    def figures(self) -> dict[str, Figure]:
        """Its figures, by key."""
        return {section[0]: section[2] for section in self.sections if not isinstance(section, Table)}

    def files(self) -> dict[str, str | bytes]:
        """Every file of the report, by name."""
        found: dict[str, str | bytes] = {f"{table.key}.csv": table.csv() for table in self.tables}
        found |= {f"{key}.png": png(figure) for key, figure in self.figures.items()}
        found["report.md"] = self.markdown()
        found["report.html"] = html_page(self.title, self.made, self.warnings, self.sections)
        return found

    def markdown(self) -> str:
        """The report as Markdown; pictures lie beside it."""
        parts = [f"# {self.title}", self.made, *[f"**{warning}**" for warning in self.warnings]]
        for section in self.sections:
            if isinstance(section, Table):
                parts.append(section.markdown())
            else:
                parts.append(f"![{section[1]}]({section[0]}.png)")
        return "\n\n".join(part.strip() for part in parts) + "\n"


def build(study: StudyResults, source: str) -> Parts:
    """All tables and figures that the study's runs allow.

    Args:
        study: What the runs measured.
        source: Where they are stored, for the head of the report.
    """
    sections: list[Section | None] = [
        table1(study),
        ("figure1", "Figure 1: gain by task and method", gains_figure(study)),
        differences(study),
        table2(study),
        _titled("figure2", "Figure 2: form of the answer", format_figure(study)),
        _titled("figure3", "Figure 3: backward transfer", transfer_figure(study)),
        *_transfer_sections(study, make_plan(study)),
        _titled("learning_curves", "Learning curves", study_curves_figure(study)),
        matrix_table(study),
        *matrix_figures(study),
    ]
    runs = sum(len(method.runs) for method in study.methods)
    made = (
        f"{runs} finished runs, seeds {', '.join(map(str, study.seeds))}; {source}; {time.strftime('%Y-%m-%d %H:%M')}."
    )
    kept = tuple(section for section in sections if section is not None)
    return Parts(f"Study {study.name}", made, tuple(_warnings(study)), kept)


def _transfer_sections(study: StudyResults, plan: Plan | None) -> list[Section | None]:
    single = transfer_table(study) if study.single else None
    if plan is None:
        return [single]
    score = list(study.domain_score().values())
    lines = came_true(study, plan)
    ran = {m.order: (m.name, mean_score(m, score)) for m in study.trained if set(m.order) == set(plan.tasks)}
    return [
        single,
        ("transfer_matrix", "Transfer matrix", matrix_figure(plan)),
        plan_table(plan),
        ("orders", "Orders: predicted and actual", orders_figure(plan, ran)),
        predicted_actual(study, plan),
        _titled("errors", "Predicted against actual, by task", errors_figure(lines) if lines else None),
    ]


def _warnings(study: StudyResults) -> list[str]:
    found = []
    if study.missing:
        found.append(f"Not finished, and therefore not in here: {', '.join(study.missing)}.")
    if len(study.seeds) < 3:
        found.append("Fewer than three seeds: differences between methods may be differences between seeds.")
    kind = {score.partition("/")[2] for score in study.domain_score().values()}
    lacking = [m.name for m in study.methods if not set(study.domain_score().values()) <= set(m.scores)]
    if lacking:
        found.append(
            f"No score of one kind for all tasks and methods; {', '.join(lacking)} stand aside where they lack it."
        )
    elif kind == {"greedy"}:
        found.append("Methods are compared by greedy scores, the only ones that all of them have.")
    return found


def _titled(key: str, title: str, figure: Figure | None) -> tuple[str, str, Figure] | None:
    return None if figure is None else (key, title, figure)


class Report:
    """Makes the tables and figures of a study from its runs in MLflow, where they are stored too.

    Args:
        study: The study's file, or its name.
        output: Folder for the files; one in the study's own if not given.
        tracking_uri: Where the study is stored; that of the study's file if not given.
    """

    def __init__(self, study: str, output: str | None = None, tracking_uri: str | None = None) -> None:
        self.name, self.uri, folder = find(study, tracking_uri)
        self.output = Path(output) if output else folder / self.name / "report"

    def run(self) -> None:
        """Make it, and say where it is.

        Raises:
            BadInput: If the folder cannot be written.
        """
        console = Console()
        store = StudyStore(self.uri, self.name)
        with console.status("Reading the runs"):
            study = store.read()
        with console.status("Drawing"):
            parts = build(study, self.uri)
            files = parts.files()
        write(files, self.output)
        with console.status("Storing"):
            store.artifacts.folder(self.output, _FOLDER)
        for warning in parts.warnings:
            console.print(warning, style="yellow", highlight=False)
        console.print(f"{self.output / 'report.html'}\n{self.output / 'report.md'}", highlight=False, soft_wrap=True)
        console.print(f"also in the study's run in MLflow, artifacts {_FOLDER}/", highlight=False)


def find(study: str, uri: str | None) -> tuple[str, str, Path]:
    """Name, store and output folder of a study that is given by its file or its name.

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


def write(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files into a folder.

    Raises:
        BadInput: If that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
