"""The verbs of the command line."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

HELP, HELP_ALL = {"-h", "--help"}, "--help_all"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    does: str  # in one line
    source: str = ""  # the function or class whose arguments are the verb's own
    tool: bool = False  # without a trainer: ``source`` is a class with a method ``run``


VERBS = {
    "fit": Verb("Train through the stages of a curriculum, and evaluate all tasks before, between and after them."),
    "validate": Verb("Evaluate a policy or a checkpoint on benchmarks.", "omnithink_pl.evaluation.validate.validate"),
    "predict": Verb("Sample completions, and keep the good ones for supervised fine-tuning."),
    "score": Verb("Score completions from a file with the rewards.", "omnithink_pl.evaluation.score.score"),
    "prepare": Verb("Download, curate and cache the rows of every task.", "omnithink_pl.data.prepare.prepare"),
    "budget": Verb("Print the memory per GPU and the least time of a step.", "omnithink_pl.verbs.budget"),
    "merge": Verb("Merge models that were trained separately.", "omnithink_pl.merge.tool.Merge", tool=True),
    "study": Verb("Run many configs with several seeds, and resume.", "omnithink_pl.study.tool.Study", tool=True),
    "report": Verb("Make a study's tables and figures.", "omnithink_pl.report.verbs.Report", tool=True),
    "plan": Verb("Plan a curriculum's order from single runs.", "omnithink_pl.report.verbs.PlanCurriculum", tool=True),
    "ui": Verb("Serve MLflow's UI, and print where the table of runs is.", "omnithink_pl.tracking.ui.Ui", tool=True),
    "configs": Verb("List the packaged configs, copy one, or compare two: ls, cp, diff."),
}


def show(text: str) -> None:
    """Print a text of many lines, of which a reader such as ``head`` may want the first only."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
