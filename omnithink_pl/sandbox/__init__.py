"""Running untrusted programs, and other work that may hang, outside the training process."""

from omnithink_pl.sandbox.base import RunOutcome, Sandbox, Verdict
from omnithink_pl.sandbox.subprocess import SubprocessSandbox

__all__ = ["RunOutcome", "Sandbox", "SubprocessSandbox", "Verdict"]
