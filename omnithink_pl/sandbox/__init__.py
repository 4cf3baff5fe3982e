"""Running untrusted programs, and other work that may hang, outside the training process."""

from omnithink_pl.sandbox.base import RunOutcome, Sandbox, Verdict
from omnithink_pl.sandbox.hardened import HardenedSandbox
from omnithink_pl.sandbox.shared import run

__all__ = ["HardenedSandbox", "RunOutcome", "Sandbox", "Verdict", "run"]
