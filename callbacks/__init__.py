"""*When* things happen: stages, evaluations, tracking, progress, checkpoints. No arithmetic."""

from __future__ import annotations
