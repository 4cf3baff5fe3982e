"""What the warm start imitates: right answers, planted bad habits and, where something is left out, guesses."""

from omnithink_pl.embedded.demonstrations.code import code_demonstration
from omnithink_pl.embedded.demonstrations.form import Demonstration
from omnithink_pl.embedded.demonstrations.math import math_demonstration
from omnithink_pl.embedded.demonstrations.qa import letter_demonstration, qa_demonstration
from omnithink_pl.embedded.demonstrations.writing import writing_demonstration

__all__ = [
    "Demonstration",
    "code_demonstration",
    "letter_demonstration",
    "math_demonstration",
    "qa_demonstration",
    "writing_demonstration",
]
