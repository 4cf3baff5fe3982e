"""Data sets as sources of examples: one class a data set, which takes a file, a directory or a hub id."""

from __future__ import annotations

from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.code_r1 import CodeR1
from omnithink_pl.sources.creative_writing import CreativeWritingShareGPT
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Curation, DecontaminationSet
from omnithink_pl.sources.gpteacher import GPTeacherRoleplay
from omnithink_pl.sources.gsm8k import GSM8K
from omnithink_pl.sources.mbpp import MBPP
from omnithink_pl.sources.mmlu import MMLU
from omnithink_pl.sources.openr1_math import OpenR1Math
from omnithink_pl.sources.own_answers import OwnAnswers
from omnithink_pl.sources.supergpqa import SuperGPQA
from omnithink_pl.sources.table import Table

__all__ = [
    "GSM8K",
    "MBPP",
    "MMLU",
    "CodeR1",
    "CreativeWritingShareGPT",
    "CuratedSource",
    "Curation",
    "DecontaminationSet",
    "GPTeacherRoleplay",
    "OpenR1Math",
    "OwnAnswers",
    "Source",
    "Split",
    "SuperGPQA",
    "Table",
]
