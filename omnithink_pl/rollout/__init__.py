"""Sampling completions from the policy: the protocol and the engines behind it."""

from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.rollout.transformers import TransformersEngine

__all__ = ["RolloutEngine", "Sampling", "TransformersEngine"]
