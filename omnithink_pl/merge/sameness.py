"""Whether weights of several models mean the same: by their tensors, what computes with them, and their tokens.

A config is compared whole, but for what is named here: a key that nobody has heard of may decide what weights mean.

Not covered: a base that was trained from scratch twice, with one architecture and one tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from omnithink_pl.errors import BadInput
from omnithink_pl.merge.weights import ADAPTER_CONFIG, CONFIG, Weights
from omnithink_pl.model.architecture import load_config

# Of a config, wherever in it, beside keys that begin with "_": how it is stored; what only training or sampling reads.
_WITHOUT_MEANING = {
    *("name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "auto_map"),
    *("use_cache", "output_attentions", "output_hidden_states", "return_dict", "pretraining_tp", "is_decoder"),
    *("initializer_range", "initializer_factor", "gradient_checkpointing", "output_router_logits"),
    *("router_aux_loss_coef", "id2label", "label2id", "problem_type"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"),  # trainers write their tokenizer's there
}
_DROPOUT = ("dropout", "pdrop")  # in the keys of what only training reads
# Of a tokenizer: how text becomes tokens. Padding and truncation are set for each call.
_PIPELINE = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor")
_ENDS = ("bos_token", "eos_token")
_MISSING = "nothing"
# Of adapters: what must be equal, and what must be plain.
_SHAPE = ("target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "rank_pattern")
_WHOLE = {"use_dora": False, "bias": "none", "modules_to_save": []}


def check_same(base: Weights, model: Weights) -> None:
    """Refuse a model that was not trained from the base, by the first difference; see :func:`differences`.

    Raises:
        BadInput: Names the models, and what differs.
    """
    for what in differences(base, model):
        raise BadInput(
            f"models: {model.directory} was not trained from {base.directory}: {what}; merge models of one base, and "
            f"name that base"
        )


def differences(base: Weights, model: Weights) -> Iterator[str]:
    """Yield in what a model differs from the base, other than in the values of its weights."""
    yield from _of_configs(base.directory, model.directory)
    for name in sorted(base.shapes.keys() ^ model.shapes.keys()):
        yield f"it {'lacks' if name in base.shapes else 'also has'} the tensor {name}"
    for name, shape in base.shapes.items():
        if model.shapes[name] != shape:
            yield f"{name} has the shape {model.shapes[name]} instead of {shape}"
    yield from of_tokenizers(base.directory, model.directory)


def _of_configs(base: Path, model: Path) -> Iterator[str]:
    """Compare configs as transformers reads them, with its defaults and under the names of today."""
    ours, theirs = (dict(_flat(load_config(str(path), "models").to_dict())) for path in (base, model))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key, _MISSING) != theirs.get(key, _MISSING):
            yield f"{key} is {theirs.get(key, _MISSING)!r} instead of {ours.get(key, _MISSING)!r} in its {CONFIG}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that mean something, by dotted keys: ``rope_parameters.rope_theta``."""
    for key, value in config.items():
        if key in _WITHOUT_MEANING or key.startswith("_") or any(part in key for part in _DROPOUT):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def of_tokenizers(base: Path, model: Path) -> Iterator[str]:
    """Compare what the tokens stand for; a directory without a tokenizer has that of its base."""
    first, second = _tokenizer(base), _tokenizer(model)
    if first is None or second is None:
        return
    ours, theirs = first.get_vocab(), second.get_vocab()
    moved = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
    if moved:
        lowest = min(moved, key=lambda token: (min(ours.get(token, 1 << 60), theirs.get(token, 1 << 60)), token))
        place, right = theirs.get(lowest, _MISSING), ours.get(lowest, _MISSING)
        yield f"{len(moved)} tokens differ: {lowest!r} is token {place} instead of {right}"
    for name in _ENDS:
        if (end := getattr(second, name)) != getattr(first, name):
            yield f"its tokenizer has the {name} {end!r} instead of {getattr(first, name)!r}"
    for part, (before, after) in _pipelines(first, second).items():
        if before != after:
            yield f"its tokenizer divides text in another way (the part {part!r} of tokenizer.json)"
    if first.chat_template != second.chat_template:
        yield "its chat template is another one, so it was trained on other prompts (if not, copy the base's tokenizer)"


def _tokenizer(path: Path) -> PreTrainedTokenizerBase | None:
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    try:
        made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, mistral_format=False
        )
    except (OSError, ValueError, KeyError) as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(f"models: the tokenizer of {path} cannot be read ({why}); save it again") from error
    return made


def _pipelines(*tokenizers: PreTrainedTokenizerBase) -> dict[str, list[Any]]:
    """Return each part of fast tokenizers; none if one of them is written in Python, and has its code instead."""
    backends = [getattr(tokenizer, "backend_tokenizer", None) for tokenizer in tokenizers]
    if None in backends:
        return {}
    read = [json.loads(backend.to_str()) for backend in backends if backend is not None]
    return {part: [one.get(part) for one in read] for part in _PIPELINE}


def check_adapters(base: Path, adapters: Sequence[Path], same_rank: bool) -> None:
    """Refuse adapters that differ in shape or tokens, or have parts that a merge would leave out.

    Args:
        base: Their base model.
        adapters: Directories, two or more.
        same_rank: Whether their factors must have the same rank.

    Raises:
        BadInput: Names the adapter and what differs.
    """
    settings = [json.loads((path / ADAPTER_CONFIG).read_text()) for path in adapters]
    for path, own in zip(adapters, settings, strict=True):
        if own.get("peft_type") != "LORA":
            raise BadInput(f"models: {path} is a {own.get('peft_type')} adapter; only LoRA can be merged")
        for key, plain in _WHOLE.items():
            if own.get(key) not in (None, plain):
                raise BadInput(
                    f"models: the adapter {path} has {key} {own[key]}, which a merge would leave out; train plain "
                    f"LoRA, or merge the adapters into their base first"
                )
        for key in (*_SHAPE, "r") if same_rank else _SHAPE:
            values = [sorted(value) if isinstance(value := one.get(key), list) else value for one in (own, settings[0])]
            if (values[0] or None) != (values[1] or None):
                raise BadInput(
                    f"models: the adapter {path} has {key} {own.get(key)}, {adapters[0]} has {settings[0].get(key)}; "
                    f"merge adapters of one shape"
                )
        trained_on = Path(own.get("base_model_name_or_path") or _MISSING)
        differing = [*of_tokenizers(base, path)]
        if (trained_on / CONFIG).is_file():  # else it is a hub id, or lies on another machine
            differing += [*_of_configs(base, trained_on), *of_tokenizers(base, trained_on)]
        if differing:
            raise BadInput(f"models: the adapter {path} was not trained on {base}: {differing[0]}; name its base")
