"""*When* things happen: stages, evaluations, tracking, progress, checkpoints. No arithmetic."""

from __future__ import annotations

import lightning as L

from callbacks.checkpoints import Checkpoints
from callbacks.config import SaveResolvedConfig
from callbacks.curriculum import Curriculum
from callbacks.demonstrations import Demonstrations
from callbacks.learning_rate import LearningRate
from callbacks.model_selection import Validation
from callbacks.progress import CurriculumProgress
from callbacks.resume import find_checkpoint, prepare_resume
from callbacks.stage_evaluation import StageEvaluation
from callbacks.tracking import Tracking

__all__ = ["CALLBACKS", "SaveResolvedConfig", "find_checkpoint", "prepare_resume"]

# By top-level config key. Order matters: a stage ends before the next is chosen, which begins before it is evaluated;
# an evaluation is saved before training goes on.
CALLBACKS: dict[str, type[L.Callback]] = {
    "validation": Validation,
    "curriculum": Curriculum,
    "evaluation": StageEvaluation,
    "learning_rate": LearningRate,
    "tracking": Tracking,
    "progress": CurriculumProgress,
    "checkpoints": Checkpoints,
    "demonstrations": Demonstrations,
}
