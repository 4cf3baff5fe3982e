"""*When* things happen: stages, evaluations, model selection, checkpoints, tracking, progress. No arithmetic."""

import lightning as L

from callbacks.checkpoints import Checkpoints
from callbacks.curriculum import Curriculum
from callbacks.demonstrations import Demonstrations
from callbacks.learning_rate import LearningRate
from callbacks.lookups import StageCallback
from callbacks.model_selection import ModelSelection
from callbacks.progress import CurriculumProgress
from callbacks.resume import prepare_resume
from callbacks.stage_evaluation import StageEvaluation
from callbacks.tracking import SaveResolvedConfig, Tracking

# The callbacks that a run consists of, by their keys in a config. The order matters: at the end of a step the policy is
# selected, what the step did is tracked and shown, and a checkpoint written; then the curriculum ends the stage.
CALLBACKS: dict[str, type[L.Callback]] = {
    "validation": ModelSelection,
    "evaluation": StageEvaluation,
    "learning_rate": LearningRate,
    "tracking": Tracking,
    "progress": CurriculumProgress,
    "checkpoints": Checkpoints,
    "demonstrations": Demonstrations,
    "curriculum": Curriculum,
}

__all__ = [
    "CALLBACKS",
    "Checkpoints",
    "Curriculum",
    "CurriculumProgress",
    "Demonstrations",
    "LearningRate",
    "ModelSelection",
    "SaveResolvedConfig",
    "StageCallback",
    "StageEvaluation",
    "Tracking",
    "prepare_resume",
]
