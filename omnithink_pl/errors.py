"""Errors that are the user's to mend; their message names the key, file or row, and the cure."""

from __future__ import annotations


class BadInput(ValueError):
    """A config, a row or a file that cannot be used. The command line shows it without a traceback."""


class RewardFailure(RuntimeError):
    """Too many rewards could not be computed; training on would be training on noise."""


class EngineFailure(RuntimeError):
    """The engine that samples completions could not start or died; the message names the setting to change."""


class PeerFailure(RuntimeError):
    """Another process of this run failed; its own message says why."""


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is no longer a finite number."""
