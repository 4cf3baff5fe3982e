"""Many runs as one: a list of runs and seeds, carried out, resumed, and recorded under one parent in MLflow."""

from __future__ import annotations
