"""Where examples come from: one class a dataset; every one takes a hub id, a local path, or ``embedded``."""

from __future__ import annotations

from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.code_r1 import CodeR1
from omnithink_pl.sources.creative_writing import CreativeWritingShareGPT
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Benchmark, Curation
from omnithink_pl.sources.openr1_math import OpenR1Math
from omnithink_pl.sources.supergpqa import SuperGPQA

__all__ = [
    "Benchmark",
    "CodeR1",
    "CreativeWritingShareGPT",
    "CuratedSource",
    "Curation",
    "OpenR1Math",
    "Source",
    "Split",
    "SuperGPQA",
]
