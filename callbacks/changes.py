"""How the config of a resumed run differs from that of its checkpoint, and what of it may change midway."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from omnithink_pl.config_files import leaves

NOT_SET = "not set"
_ASKED = {"config", "ckpt_path", "weights_only"}  # of the resumption itself

# Each may differ from one part of a run to the next, which is told and stored; everything else decides what the run is,
# or makes its rows of scores incomparable, and has to stay. Keys are without `init_args`.
_MAY_CHANGE = re.compile(
    r"trainer\b"  # where it computes, how much of it, and where it is tracked
    r"|(checkpoints|progress|demonstrations|tracking)\b|torch_threads|data\.benchmarks\b"
    r"|validation\.(every_n_steps|patience|min_delta|keep_best)"
    r"|model\.(memory|engine|failures)\b"  # results do not depend on them: the engine's agreement is checked anew
    r"|model\.(max_grad_norm|objective|advantage|overlong)\b"
    r"|model\.optimizer\.(?!class_path)|learning_rate\b"
    r"|model\.kl\.(beta|targets|gain|clip)\b"
    r"|curriculum\.(stages|steps)\b"  # stages that have begun are compared by themselves
    r"|data\.tasks\.\w+\.(\w+\.)*(endpoint|prices|sandbox|workers|timeout|cache)\b"  # the machinery behind rewards
)
_BETA = re.compile(r"model\.kl\.beta(\.(?P<task>\w+))?")


@final
@dataclass(frozen=True)
class Change:
    """A setting that differs."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key} {self.before}, now {self.after}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return every setting that differs between two configs.

    Example:
        >>> [str(one) for one in compare({"model": {"init_args": {"beta": 1}}}, {"model": {"init_args": {"beta": 2}}})]
        ['model.beta 1, now 2']
    """
    old, new = dict(leaves(before)), dict(leaves(after))
    keys = [key for key in dict.fromkeys([*old, *new]) if key.partition(".")[0] not in _ASKED]
    pairs = ((key, old.get(key, NOT_SET), new.get(key, NOT_SET)) for key in keys)
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def refused(changes: Sequence[Change], before: Mapping[str, Any]) -> list[Change]:
    """Return those that cannot change midway, given the config before."""
    return [one for one in changes if not _MAY_CHANGE.match(one.key) or _has_no_effect(one, before)]


def _has_no_effect(change: Change, before: Mapping[str, Any]) -> bool:
    """Whether it is a KL coefficient that would not be read: it has followed a target, or lacks its reference."""
    found = _BETA.fullmatch(change.key)
    if found is None:
        return False
    kl = dict(leaves(before["model"]))
    betas = [value for key, value in kl.items() if key == "kl.beta" or key.startswith("kl.beta.")]
    followed = [key.removeprefix("kl.targets.") for key in kl if key.startswith("kl.targets.")]
    unanchored = kl.get("kl.reference") == "stage" and not any(betas)  # the stage began without a copy of its policy
    return unanchored or (bool(followed) if found["task"] is None else found["task"] in followed)
