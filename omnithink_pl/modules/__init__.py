"""LightningModules: how a policy is trained."""

from omnithink_pl.modules.base import PolicyModule, TrainingDiverged
from omnithink_pl.modules.mt_grpo import MultiTaskGRPO
from omnithink_pl.modules.rejection import RejectionSampling
from omnithink_pl.modules.sft import SupervisedFineTuning

__all__ = ["MultiTaskGRPO", "PolicyModule", "RejectionSampling", "SupervisedFineTuning", "TrainingDiverged"]
