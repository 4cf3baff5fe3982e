"""What a policy is measured on: the paper's benchmarks and a few more, one file each."""

from omnithink_pl.benchmarks.aime24 import AIME24
from omnithink_pl.benchmarks.amc23 import AMC23
from omnithink_pl.benchmarks.base import Benchmark, BenchmarkSource, TwoTurns
from omnithink_pl.benchmarks.bigcodebench import BigCodeBench
from omnithink_pl.benchmarks.gaokao2023en import Gaokao2023EN
from omnithink_pl.benchmarks.gsm8k import GSM8K
from omnithink_pl.benchmarks.humaneval import HumanEval
from omnithink_pl.benchmarks.livecodebench import LiveCodeBench
from omnithink_pl.benchmarks.math500 import Math500
from omnithink_pl.benchmarks.minerva import Minerva
from omnithink_pl.benchmarks.mmlu_pro import MMLUPro
from omnithink_pl.benchmarks.mt_bench import MTBench
from omnithink_pl.benchmarks.olympiadbench import OlympiadBench

__all__ = [
    "AIME24",
    "AMC23",
    "GSM8K",
    "Benchmark",
    "BenchmarkSource",
    "BigCodeBench",
    "Gaokao2023EN",
    "HumanEval",
    "LiveCodeBench",
    "MMLUPro",
    "MTBench",
    "Math500",
    "Minerva",
    "OlympiadBench",
    "TwoTurns",
]
