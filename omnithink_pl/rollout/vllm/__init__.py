"""Rollouts with vLLM 0.32: inside the training process, or from a server."""

from __future__ import annotations

from omnithink_pl.rollout.vllm.engine import ColocatedVLLM
from omnithink_pl.rollout.vllm.server import VLLMServer

__all__ = ["ColocatedVLLM", "VLLMServer"]
