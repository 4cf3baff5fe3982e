"""The tracking store: the only room, beside ``report``, that knows MLflow."""

from __future__ import annotations

from omnithink_pl.tracking.logger import TrackingLogger
from omnithink_pl.tracking.store import TrackingError

__all__ = ["TrackingError", "TrackingLogger"]
