"""Addresses of pages of MLflow's UI, and the view in which the table of an experiment's runs opens.

The UI has two halves, for agents and for models, and shows no metrics in its table until columns are chosen. Both
choices are a browser's own, but an address can make them: ``workflowType`` names the half, and ``viewStateShareKey`` a
saved view of the experiment: its columns and charts, in a tag whose form MLflow 3.17 knows. The page's menu *Views* has
it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omnithink_pl.evaluation.scorer import AFTER

LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves a store that is a database."""
VIEW = "summary"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_HALF = "workflowType=machine_learning"
_SUMMARY = ("eval", "forgetting")  # below AFTER
# Of the charts, below which MLflow adds those of all other metrics; it drops metrics whose section is missing.
_SECTIONS = [
    {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False, "isGenerated": True}
    for name in (*(f"{AFTER}/{kind}" for kind in _SUMMARY), "Model metrics", "System metrics")
]
_WIDTHS = {"eval": 145, "forgetting": 180, "stages": 190, "steps": 110, "seed": 70, "policy": 110}  # pixels


def runs_address(server: str, experiment_id: str) -> str:
    """Return the address of the table of an experiment's runs."""
    return f"{server}/#/experiments/{experiment_id}/runs?{_HALF}&viewStateShareKey={VIEW}"


def run_address(server: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{_HALF}"


def server_of(uri: str) -> str:
    """Return the address of the UI that shows a store."""
    return uri.rstrip("/") if uri.startswith("http") else LOCAL


def summary_view(tasks: Sequence[str], before: str | None, now: float) -> str | None:
    """Return the saved view for an experiment with runs of these tasks; ``None`` if the one before has all.

    A view that somebody has changed keeps what it has, and gets the columns and charts of new tasks.

    Args:
        tasks: Names of the tasks.
        before: The view that there is.
        now: Seconds since the epoch.
    """
    saved: Mapping[str, Any] = json.loads(before) if before else {}
    state = json.loads(saved["state"]) if saved else {}
    columns = _columns(tasks)
    shown = state.get("selectedColumns", [])
    if set(columns) <= set(shown) and "compareRunCharts" in state:
        return None
    # These first; behind them those of other tasks, and what somebody has added.
    state["selectedColumns"] = state["columnOrder"] = list(dict.fromkeys([*columns, *shown]))
    state["columnWidths"] = {**columns, **state.get("columnWidths", {})}
    state["compareRunSections"] = sections = state.get("compareRunSections") or _SECTIONS
    charts = state.get("compareRunCharts") or []
    known = {chart.get("metricKey") for chart in charts}
    state["compareRunCharts"] = [*charts, *(one for one in _bars(tasks, sections) if one["metricKey"] not in known)]
    stamp = round(now * 1000)
    view = {"name": "Summary", "createdAt": saved.get("createdAt", stamp), "updatedAt": stamp}
    return json.dumps({**view, "state": json.dumps(state)})


def _columns(tasks: Sequence[str]) -> dict[str, int]:
    """The columns of tasks with their widths: means first, since a screen has room for some five."""
    scores = [(kind, name) for name in ("mean", *tasks) for kind in _SUMMARY]
    found = {f"metrics.`{AFTER}/{kind}/{name}`": _WIDTHS[kind] for kind, name in scores}
    return found | {f"params.`{name}`": _WIDTHS[name] for name in ("stages", "steps", "seed", "policy")}


def _bars(tasks: Sequence[str], sections: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a bar chart of each score after the last stage: of one point MLflow would make a line that is none."""
    places = {section["name"]: section["uuid"] for section in sections}
    for kind in _SUMMARY:
        for name in ("mean", *tasks):
            metric, place = f"{AFTER}/{kind}/{name}", places.get(f"{AFTER}/{kind}")
            shown = {"metricSectionId": place, "displayName": name, "runsCountToCompare": 10}
            yield {"type": "BAR", "uuid": metric, "metricKey": metric, "deleted": False, "isGenerated": False, **shown}
