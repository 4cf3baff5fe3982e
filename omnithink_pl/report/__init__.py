"""Tables and figures of runs and studies, for the console, MLflow and the report's page."""

from __future__ import annotations
