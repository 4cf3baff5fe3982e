"""Errors that a user can correct; their message names the key, file or row, and the cure."""

from __future__ import annotations


class OmniThinkError(Exception):
    """Base class: the command line prints these on one line. Any other error is a bug and keeps its traceback."""


class BadInput(OmniThinkError, ValueError):
    """A config, a row or a file that cannot be used."""


class RewardFailure(OmniThinkError):
    """Too many rewards could not be computed; further training would be on noise."""


class RunEnded(OmniThinkError):
    """Something ended the run before its plan, without an error of its own."""


class EngineFailure(OmniThinkError):
    """The rollout engine could not start or died; the message names the setting to change."""


class RankFailure(OmniThinkError):
    """Another rank of this run failed; its own message says why."""


class TrainingDiverged(OmniThinkError):
    """The loss or its gradient is no longer finite."""
