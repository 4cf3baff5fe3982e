"""Merging of models that were fine-tuned separately from the same base."""

from __future__ import annotations

from omnithink_pl.merge.tool import Merge

__all__ = ["Merge"]
