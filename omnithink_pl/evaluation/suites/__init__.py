"""Suites: the paper's benchmarks and a few more, named in ``data.benchmarks`` by ``class_path``."""

from __future__ import annotations

from omnithink_pl.evaluation.suites.code import BigCodeBench, HumanEval, LiveCodeBench
from omnithink_pl.evaluation.suites.math import AIME24, AMC23, GSM8K, Gaokao2023EN, Math500, Minerva, OlympiadBench
from omnithink_pl.evaluation.suites.mmlu_pro import MMLUPro
from omnithink_pl.evaluation.suites.mt_bench import MTBench

__all__ = [
    "AIME24",
    "AMC23",
    "GSM8K",
    "BigCodeBench",
    "Gaokao2023EN",
    "HumanEval",
    "LiveCodeBench",
    "MMLUPro",
    "MTBench",
    "Math500",
    "Minerva",
    "OlympiadBench",
]
