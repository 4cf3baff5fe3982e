"""LightningModules: how a policy is trained."""

from omnithink_pl.modules.mt_grpo import MultiTaskGRPO

__all__ = ["MultiTaskGRPO"]
