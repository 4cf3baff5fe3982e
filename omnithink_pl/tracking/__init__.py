"""Experiment tracking: writing runs to MLflow and reading them back."""

from __future__ import annotations

from omnithink_pl.tracking.logger import TrackingLogger
from omnithink_pl.tracking.store import TrackingError

__all__ = ["TrackingError", "TrackingLogger"]
