"""LightningModules: how a policy is trained."""

from __future__ import annotations

from omnithink_pl.modules.base import PolicyModule
from omnithink_pl.modules.mt_grpo import MultiTaskGRPO
from omnithink_pl.modules.rejection_sampling import RejectionSampling
from omnithink_pl.modules.sft import SupervisedFineTuning

__all__ = ["MultiTaskGRPO", "PolicyModule", "RejectionSampling", "SupervisedFineTuning"]
