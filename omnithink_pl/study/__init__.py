"""Studies: many runs and seeds, run in parallel, resumed, and recorded under one parent run in MLflow."""

from __future__ import annotations
