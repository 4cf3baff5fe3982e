"""*When* things happen: stages, evaluations, model selection, checkpoints, tracking, progress. No arithmetic."""

from typing import Any

import lightning as L

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.evaluator import Evaluator

from .checkpoints import Checkpoints
from .curriculum import Curriculum
from .demonstrations import Demonstrations
from .learning_rate import LearningRate
from .lookups import StageCallback
from .model_card import PolicyCard
from .model_selection import ModelSelection
from .progress import CurriculumProgress
from .resume import find_checkpoint, prepare_resume
from .stage_evaluation import StageEvaluation
from .tracking import SaveResolvedConfig, Tracking

# The callbacks that a run consists of, by their keys in a config. The order matters: at the end of a step the policy is
# selected, what the step did is tracked and shown, and a checkpoint written; then the curriculum ends the stage.
CALLBACKS: dict[str, type[L.Callback]] = {
    "validation": ModelSelection,
    "evaluation": StageEvaluation,
    "learning_rate": LearningRate,
    "tracking": Tracking,
    "progress": CurriculumProgress,
    "checkpoints": Checkpoints,
    "model_card": PolicyCard,
    "demonstrations": Demonstrations,
    "curriculum": Curriculum,
}


def default_callbacks(curriculum: Curriculum, name: str = "run", **others: L.Callback) -> list[L.Callback]:
    """Return the callbacks of a run, in their order, for a ``Trainer`` that is made without the command line.

    Args:
        curriculum: The stages to be trained.
        name: Kind of run: names its tracked run and its folder.
        **others: In place of those with default arguments, by their keys in a config.

    Example:
        default_callbacks(Curriculum([Stage({"math": 1}, 20)]), evaluation=StageEvaluation(Evaluator(prompts=32)))

    Raises:
        BadInput: If a key is none of a config's.
    """
    if unknown := sorted(others.keys() - CALLBACKS):
        raise BadInput(f"default_callbacks: no callback has the key {unknown[0]!r}; choose from {sorted(CALLBACKS)}")
    given = {"curriculum": curriculum, **others}
    own: dict[str, dict[str, Any]] = {
        "evaluation": {"evaluator": Evaluator()},
        "tracking": {"name": name},
        "checkpoints": {"name": name},
    }
    return [given[key] if key in given else kind(**own.get(key, {})) for key, kind in CALLBACKS.items()]


__all__ = [
    "CALLBACKS",
    "Checkpoints",
    "Curriculum",
    "CurriculumProgress",
    "Demonstrations",
    "LearningRate",
    "ModelSelection",
    "PolicyCard",
    "SaveResolvedConfig",
    "StageCallback",
    "StageEvaluation",
    "Tracking",
    "default_callbacks",
    "find_checkpoint",
    "prepare_resume",
]
