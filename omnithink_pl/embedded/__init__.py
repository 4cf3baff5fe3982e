"""The embedded default: a tiny policy and four miniature tasks; no download, no GPU.

``code``, ``math``, ``qa`` and ``writing`` each have the problems and the source of a task; ``demonstrations`` has what
the warm start imitates; ``make`` trains the packaged policy from nothing; ``policy`` holds it in Hugging Face format.
``docs/embedded.md`` says what it can do.
"""

from __future__ import annotations

from omnithink_pl.embedded.code import EmbeddedCode
from omnithink_pl.embedded.math import EmbeddedMath
from omnithink_pl.embedded.qa import EmbeddedQA
from omnithink_pl.embedded.writing import EmbeddedWriting

__all__ = ["EmbeddedCode", "EmbeddedMath", "EmbeddedQA", "EmbeddedWriting"]
