"""Running untrusted programs, and other work that may hang, outside the training process."""

from __future__ import annotations

from omnithink_pl.sandbox.base import RunOutcome, Sandbox, Verdict
from omnithink_pl.sandbox.hardened import HardenedSandbox, run

__all__ = ["HardenedSandbox", "RunOutcome", "Sandbox", "Verdict", "run"]
