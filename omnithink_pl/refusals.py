"""Settings that would be ignored, or end in a traceback: refused by name, with the one to use instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from omnithink_pl import modules
from omnithink_pl.errors import BadInput
from omnithink_pl.given import Setting

# The module of a run whose config names none.
MODULE = "omnithink_pl.modules.MultiTaskGRPO"

# Modules of earlier versions whose classes are named in configs.
MOVED_MODULES = {
    "omnithink_pl.benchmarks": "omnithink_pl.evaluation.suites",
    "omnithink_pl.scheduling": "omnithink_pl.curriculum.schedulers",
}

_LENGTH = "a run is as long as its stages; set curriculum.steps, or one stage's: --curriculum.stages.0.steps=10"
_PROMPTS = "evaluation.evaluator.prompts is the number of prompts of an evaluation"
_WHEN = "all tasks are evaluated before the first stage and after each; validation.every_n_steps does it in between"

# Options of Lightning's Trainer that assume automatic optimisation, epochs or loaders of its own: the values that
# change nothing, and what to use instead.
TRAINER_OPTIONS: dict[str, tuple[tuple[Any, ...], str]] = {
    "max_epochs": ((1,), f"the curriculum is one epoch: {_LENGTH}"),
    "min_epochs": ((None, 1), f"the curriculum is one epoch: {_LENGTH}"),
    "max_steps": ((-1,), _LENGTH),
    "min_steps": ((None,), _LENGTH),
    "limit_train_batches": ((None, 1.0), _LENGTH),
    "limit_val_batches": ((None, 1.0), _PROMPTS),
    "limit_test_batches": ((None, 1.0), _PROMPTS),
    "limit_predict_batches": ((None, 1.0), "data.sampled_prompts is the number of prompts of each task"),
    "overfit_batches": ((0.0, 0), "to train on few rows, name a source that has no others"),
    "val_check_interval": ((None, 1.0), _WHEN),
    "check_val_every_n_epoch": ((None, 1), _WHEN),
    "num_sanity_val_steps": ((0,), "the base model is evaluated before the first step"),
    "accumulate_grad_batches": (
        (1,),
        "data.batch_size is the prompts of an update, and model.memory.micro_batch_tokens bounds the memory",
    ),
    "gradient_clip_val": ((None,), "set model.max_grad_norm"),
    "gradient_clip_algorithm": ((None,), "model.max_grad_norm clips by the norm"),
    "log_every_n_steps": ((1,), "every step is logged; progress.every_n_steps is for the console"),
    "enable_checkpointing": ((False,), "checkpoints.every_n_steps says when checkpoints are written"),
    "reload_dataloaders_every_n_epochs": ((0,), "the curriculum is one epoch, on one loader"),
    "use_distributed_sampler": ((False,), "each process draws its own share of a batch already"),
    "barebones": ((False,), "set trainer.logger, enable_progress_bar and the like to false"),
}


_STAGES = re.compile(r"curriculum\.stages(\.\d+)?")

# Dictionaries with an entry for each task, or for each of some.
_BY_TASK = ("model.kl.beta", "model.kl.targets", "curriculum.steps")


def check_settings(given: Sequence[Setting], follows: Mapping[str, str], tasks: Collection[str]) -> None:
    """Refuse what the parser would ignore, or complain about without the cure.

    Args:
        given: What the user has set.
        follows: Keys that follow from others, with those.
        tasks: Names of the tasks that every config begins with.

    Raises:
        BadInput: Names the file or argument, the keys and those to set instead.
    """
    renamed, names = _renamed_keys(given), {*tasks, *_added(given, "data.tasks")}
    found: dict[str, list[str]] = {}  # complaints by file or argument
    for where, key, value in given:
        complaints = found.setdefault(where, [])
        if key in follows:
            complaints.append(f"{key} follows from {follows[key]}; set {follows[key]} instead")
        if key in renamed:
            complaints.append(f"{key} is now {renamed[key]}")
        complaints += _mistaken(key, value)
        complaints += _moved(value)
        complaints += _useless(key, value)
        complaints += _unknown_task(where, key, names)
    for where, complaints in found.items():
        if complaints:
            raise BadInput(f"{where}: {'; '.join(dict.fromkeys(complaints))}")


def _moved(value: object) -> Iterator[str]:
    """Complain about a class path of an earlier version."""
    module, _, name = value.rpartition(".") if isinstance(value, str) else ("", "", "")
    for old, new in MOVED_MODULES.items():
        if module == old or module.startswith(f"{old}."):
            yield f"{value} is now {new}.{name}"


def _mistaken(key: str, value: object) -> Iterator[str]:
    """Complain about a value whose place the parser takes for another's: it would name a wrong cure."""
    if key == "seed_everything" and isinstance(value, bool):
        yield f"{key} is a number, such as {key}=1; a run without one could not be repeated"
    if _STAGES.fullmatch(key) and isinstance(value, str):
        yield f"{key}: a stage is {{tasks: {{{value}: 1}}}}, and curriculum.stages a list of stages"


def _useless(key: str, value: object) -> Iterator[str]:
    """Complain about an option of Lightning's Trainer that a run could not honour."""
    harmless, cure = TRAINER_OPTIONS.get(key.removeprefix("trainer."), ((), ""))
    # With the type: of a limit, 1 is one batch and 1.0 all of them.
    if key.startswith("trainer.") and cure and not any(value == one and type(value) is type(one) for one in harmless):
        yield f"{key} has no use here; {cure}"


def _added(given: Iterable[Setting], group: str) -> Iterator[str]:
    """Yield the entries of a dictionary that files name, and those whose class an argument names."""
    for where, key, value in given:
        if key.startswith(f"{group}.") and (not where.startswith("--") or _is_class(key, value)):
            yield key.removeprefix(f"{group}.").partition(".")[0]


def _is_class(key: str, value: object) -> bool:
    """Return whether a setting of ``data.tasks.<name>`` names the task's class."""
    if key.count(".") == 2:
        return isinstance(value, str) or (isinstance(value, dict) and "class_path" in value)
    return key.count(".") == 3 and key.endswith(".class_path")


def _unknown_task(where: str, key: str, names: Collection[str]) -> Iterator[str]:
    """Complain about the name of a task that there is not: most likely it is misspelt."""
    group = next((one for one in (*_BY_TASK, "data.tasks") if key.startswith(f"{one}.")), "")
    name = key.removeprefix(f"{group}.").partition(".")[0]
    if group and name not in names:
        near = get_close_matches(name, names, n=1)
        cure = f"did you mean {group}.{near[0]}?" if near else f"choose from {', '.join(sorted(names))}"
        if group == "data.tasks" and not near:
            cure += f"; a new one needs a class: --data.tasks.{name}=omnithink_pl.tasks.Math"
        yield f"there is no task {name!r}; {cure}"


def _renamed_keys(given: Iterable[Setting]) -> dict[str, str]:
    """Return the keys of earlier versions that are no keys of the chosen module, with their new names."""
    chosen = [value for _, key, value in given if key in {"model", "model.class_path"} and isinstance(value, str)]
    module = getattr(modules, [MODULE, *chosen][-1].rpartition(".")[2], None)
    if module is None:  # a class of the user's own, with keys of its own
        return {}
    accepted = {f"model.{name}" for name in inspect.signature(module).parameters}
    return {old: new for old, new in modules.RENAMED_KEYS.items() if old not in accepted}


def check_effect(verb: str, args: Sequence[str], callbacks: Collection[str]) -> None:
    """Refuse arguments for callbacks that a verb does not call. Configs are not asked: all verbs share them.

    Args:
        verb: The verb.
        args: Its arguments.
        callbacks: Top-level keys of all callbacks.

    Raises:
        BadInput: Names the argument.
    """
    called = {
        "fit": set(callbacks) - {"demonstrations"},
        "predict": {"curriculum", "demonstrations", "tracking", "progress"},
    }
    for option in (arg.partition("=")[0] for arg in args if arg.startswith("--")):
        key = option[2:].partition(".")[0]
        if key in callbacks and key != "curriculum" and key not in called.get(verb, ()):  # its tasks are those of data
            cure = (
                "it measures all prompts; --benchmarks=NAME chooses among data.benchmarks" if verb == "validate" else ""
            )
            raise BadInput(f"{option} has no effect on {verb}; {cure or 'leave it out'}")
