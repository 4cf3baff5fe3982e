"""Addresses of pages of MLflow's UI, and the view in which the table of an experiment's runs opens.

The UI has two halves, for agents and for models, and shows no metrics in its table until columns are chosen. Both
choices are a browser's own, but an address can make them: ``workflowType`` names the half, and ``viewStateShareKey`` a
saved view of the experiment: its columns, in a tag whose form MLflow 3.17 knows. The page's menu *Views* has it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omnithink_pl.evaluation.scorer import AFTER

LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves a store that is a database."""
VIEW = "summary"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_HALF = "workflowType=machine_learning"
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
    """Return the saved view for an experiment with runs of these tasks; ``None`` if the one before has their columns.

    A view that somebody has changed keeps what it has, and gets the columns of new tasks.

    Args:
        tasks: Names of the tasks.
        before: The view that there is.
        now: Seconds since the epoch.
    """
    saved: Mapping[str, Any] = json.loads(before) if before else {}
    state = json.loads(saved["state"]) if saved else {}
    columns = _columns(tasks)
    shown = state.get("selectedColumns", [])
    if set(columns) <= set(shown):
        return None
    # These first; behind them those of other tasks, and what somebody has added.
    state["selectedColumns"] = state["columnOrder"] = list(dict.fromkeys([*columns, *shown]))
    state["columnWidths"] = {**columns, **state.get("columnWidths", {})}
    stamp = round(now * 1000)
    view = {"name": "Summary", "createdAt": saved.get("createdAt", stamp), "updatedAt": stamp}
    return json.dumps({**view, "state": json.dumps(state)})


def _columns(tasks: Sequence[str]) -> dict[str, int]:
    """The columns of tasks with their widths: means first, since a screen has room for some five."""
    scores = [(kind, name) for name in ("mean", *tasks) for kind in ("eval", "forgetting")]
    found = {f"metrics.`{AFTER}/{kind}/{name}`": _WIDTHS[kind] for kind, name in scores}
    return found | {f"params.`{name}`": _WIDTHS[name] for name in ("stages", "steps", "seed", "policy")}
