"""Sampling completions from the policy: the protocol and the engines behind it."""

from __future__ import annotations

from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.rollout.vllm import ColocatedVLLM, VLLMServer

__all__ = ["ColocatedVLLM", "RolloutEngine", "Sampling", "TransformersEngine", "VLLMServer"]
