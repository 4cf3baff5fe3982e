"""Omni-Think on Lightning: reinforcement learning of one language model on many tasks.

Importing the package loads nothing heavy: no torch, no vLLM. Import the room you need, for
instance ``from omnithink_pl.modules import MultiTaskGRPO``.
"""

from __future__ import annotations

__version__ = "0.1.0"
