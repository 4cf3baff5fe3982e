"""A run's parameters: its configuration, flat, with what runs are usually compared by on top."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from omnithink_pl.curriculum.stages import Stage, with_lengths

# What experiments usually differ in: name of the parameter, key of the configuration.
CHOSEN = {
    "kind": "name",
    "seed": "seed_everything",
    "policy": "model.policy",
    "method": "model",
    "adapter": "model.adapter",
    "batch_size": "data.batch_size",
    "demonstrations": "data.demonstrations",
    "sampler": "data.task_sampler",
    "replay": "curriculum.replay",
    "scheduler": "curriculum.scheduler",
    "group_size": "model.sampling.group_size",
    "temperature": "model.sampling.temperature",
    "top_p": "model.sampling.top_p",
    "max_tokens": "model.sampling.max_tokens",
    "beta": "model.kl.beta",
    "kl_reference": "model.kl.reference",
    "kl_targets": "model.kl.targets",
    "optimizer": "model.optimizer",
    "lr": "model.optimizer.lr",
    "weight_decay": "model.optimizer.weight_decay",
    "lr_decay": "learning_rate.decay",
    "lr_warmup_steps": "learning_rate.warmup_steps",
    "max_grad_norm": "model.max_grad_norm",
    "clip_low": "model.objective.clip_low",
    "clip_high": "model.objective.clip_high",
    "ratio": "model.objective.ratio",
    "aggregation": "model.objective.aggregation",
    "advantage_scale": "model.advantage.scale",
    "phantom_guard": "model.advantage.phantom_guard",
    "overlong_filter": "model.overlong.filter",
    "overlong_cache": "model.overlong.cache",
    "refill_rounds": "model.rollouts.refill_rounds",
    "async_rewards": "model.rollouts.async_rewards",
    "segment_tokens": "model.rollouts.segment_tokens",
    "updates_per_batch": "model.rollouts.updates_per_batch",
    "correction": "model.rollouts.correction.level",
    "engine": "model.engine",
    "precision": "trainer.precision",
    "devices": "trainer.devices",
    "eval_prompts": "evaluation.evaluator.prompts",
    "eval_samples": "evaluation.evaluator.samples",
    "validation_steps": "validation.every_n_steps",
}
_WHOLE = {"adapter", "beta", "kl_targets"}
REST = "yaml/"
"""Before the key of every other setting: trackers list parameters by name, and these last."""


def parameters(config: Mapping[str, Any]) -> dict[str, str | float]:
    """Return the parameters of a run.

    Args:
        config: As parsed from ``config.yaml``.

    Returns:
        First the ``CHOSEN``, under short names, with ``stages`` and ``steps`` of the curriculum; then, under ``yaml/``,
        all other settings by their keys, as they are written on the command line. A class is the value of its own key,
        without its module: ``optimizer: AdamW``, ``lr: 0.0003``, ``yaml/model.optimizer.eps: 1e-08``. Numbers stay
        numbers, by which W&B and TensorBoard sort and filter; all else is text.
    """
    flat = dict(_flatten(config))
    chosen = _stages(config)
    for name, key in CHOSEN.items():
        # A setting, or a dictionary as a whole; of a class only its name.
        keys = [found for found in flat if found == key or (name in _WHOLE and found.startswith(f"{key}."))]
        if own := {found: flat.pop(found) for found in keys}:
            chosen[name] = _join(key, own)
    return chosen | {f"{REST}{key}": _plain(value) for key, value in flat.items()}


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and "class_path" in value:
        yield key, str(value["class_path"]).rpartition(".")[2]
        value = value.get("init_args") or {}
    elif not isinstance(value, Mapping) or (key and not value):
        yield key, value
        return
    for name, inner in value.items():
        yield from _flatten(inner, f"{key}.{name}" if key else str(name))


def _join(key: str, own: Mapping[str, Any]) -> str | float:
    """One value for a setting, or for a dictionary: the value of its entries if they have one, else all of them."""
    if key in own:
        return _plain(own[key])
    entries = {found.removeprefix(f"{key}."): value for found, value in own.items()}
    values = list(entries.values())
    return _plain(values[0] if all(value == values[0] for value in values) else entries)


def _stages(config: Mapping[str, Any]) -> dict[str, str | float]:
    """The plan of the curriculum, such as ``code > math`` and ``50 > 50``."""
    curriculum = config.get("curriculum") or {}
    plain = curriculum.get("stages") or []
    written = [Stage(dict(stage["tasks"]), int(stage.get("steps") or 0)) for stage in plain]
    stages = with_lengths(written, curriculum.get("steps") or {})
    if not stages:
        return {}
    names, steps = (stage.name for stage in stages), (str(stage.steps) for stage in stages)
    return {"stages": " > ".join(names), "steps": " > ".join(steps)}


def _plain(value: Any) -> str | float:
    """A number or a text; any other value as YAML has it."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
