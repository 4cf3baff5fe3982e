"""LightningModules: how a policy is trained."""

from __future__ import annotations

from omnithink_pl.modules.base import PolicyModule, TrainingModule
from omnithink_pl.modules.mt_grpo import MultiTaskGRPO
from omnithink_pl.modules.rejection_sampling import RejectionSampling
from omnithink_pl.modules.sft import SupervisedFineTuning

__all__ = [
    "RENAMED_KEYS",
    "MultiTaskGRPO",
    "PolicyModule",
    "RejectionSampling",
    "SupervisedFineTuning",
    "TrainingModule",
]

# Keys of earlier releases and what they are called now; the command line refuses the old ones by the new names.
RENAMED_KEYS: dict[str, str] = {
    "model.beta": "model.kl.beta",
    "model.reference": "model.kl.reference",
    "model.group_size": "model.sampling.group_size",
    "model.samples": "model.sampling.group_size",
    "model.temperature": "model.sampling.temperature",
    "model.top_p": "model.sampling.top_p",
    "model.max_tokens": "model.sampling.max_tokens",
    "model.updates_per_batch": "model.rollouts.updates_per_batch",
    "model.correction": "model.rollouts.correction",
    "model.micro_batch_tokens": "model.memory.micro_batch_tokens",
    "model.share_prompt": "model.memory.share_prompt",
    "model.gradient_checkpointing": "model.memory.gradient_checkpointing",
    "model.offload_reference": "model.memory.offload_reference",
    "model.offload_optimizer": "model.memory.offload_optimizer",
}
