"""Lightning's Trainer, with what can be done beside training."""

from __future__ import annotations

from typing import final

import lightning as L

from omnithink_pl.verbs.budget import budget
from omnithink_pl.verbs.prepare import prepare
from omnithink_pl.verbs.score import score
from omnithink_pl.verbs.validate import validate


@final
class OmniThinkTrainer(L.Trainer):
    """Also prepares data, evaluates on benchmarks, scores completions, and says what a run needs."""

    budget = budget
    prepare = prepare
    score = score
    validate = validate  # type: ignore[assignment]  # Lightning's computes a loss over a loader; we have none
