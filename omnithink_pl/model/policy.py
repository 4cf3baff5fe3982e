"""A policy: its model and tokenizer, loaded from and saved in Hugging Face format, and its weights by name."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from jinja2 import TemplateError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import attention_of, context_length, load_config, why_unreadable
from omnithink_pl.model.chat import ChatTemplate, template_variables
from omnithink_pl.model.export import mend_generation_config
from omnithink_pl.model.products import use_faster_products
from omnithink_pl.model.randomness import disable_randomness
from omnithink_pl.model.sharding import full, gathered, layers
from omnithink_pl.types import Message
from omnithink_pl.whole import whole_folder

log = logging.getLogger(__name__)
EMBEDDED = "embedded"
ADAPTER = "adapter"  # folder of the adapters in that of a saved policy
_PEFT_PREFIX, _PEFT_BASE = "base_model.model.", ".base_layer"  # in the names of a model that PEFT wraps
# Quantised weights that transformers makes plain while it loads them, where config.json has "dequantize": true or the
# machine cannot compute with them. compressed-tensors does so too, but its layers go on to round what passes them.
_DEQUANTISED = ("fp8", "mxfp8", "mxfp4", "metal")
_SCALES = ".weight."  # in the names of what bitsandbytes keeps beside a 4-bit weight


@dataclass
class Policy:
    """A causal language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase  # with a chat template and an EOS token
    version: int = 0  # of the weights: engines that hold this version need not take them over again
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False  # whether it was loaded by code that came with it
    compute: torch.dtype | None = None  # of forward passes, see model/precision.py; ``None``: that of the weights

    def weights_changed(self) -> None:
        """Count a new version; to be called by whatever writes weights."""
        self.version += 1

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a chat prompt, ready for the assistant's turn."""
        return self.chat.encode(messages)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a completion, with what the prompt has opened of it; see ``ChatTemplate.decode``."""
        return self.chat.decode(token_ids)

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template, with its arguments."""
        return ChatTemplate(self.tokenizer, self.chat_template_kwargs)

    @property
    def eos_id(self) -> int:
        """The token that ends a completion; see ``ChatTemplate.end_of_turn``."""
        return self.chat.end_of_turn(_stops(self.model))

    @property
    def context(self) -> int:
        """Tokens that prompt and completion may have together."""
        return context_length(self.model.config, getattr(self.tokenizer, "model_max_length", None))


def _stops(model: PreTrainedModel) -> list[int]:
    """Return the tokens that end a completion, as a model's generation config says."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return found if isinstance(found, list) else [found] if found is not None else []


def policy_path(name: str) -> str:
    """Return the directory of the packaged policy for ``embedded``, and any other name as it is."""
    return str(files("omnithink_pl.embedded") / "policy") if name == EMBEDDED else name


@cache  # the hub is asked once
def find_policy(name: str, key: str = "model.policy") -> str:
    """Return what a policy is loaded from: a directory, or a hub id that the hub has.

    transformers would ask the hub for each file, and five times again where it is away.

    Args:
        name: ``embedded``, a local directory, or a hub id.
        key: What the user set to it, for messages.

    Raises:
        BadInput: If it is none of these, or the hub cannot be reached and no copy of an earlier download is here.
    """
    path = policy_path(name)
    if Path(path).expanduser().is_dir():
        return str(Path(path).expanduser())
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise BadInput(f"{key}: no directory {path!r}; give a directory, a hub id or 'embedded'")
    try:
        downloaded = try_to_load_from_cache(name, "config.json")
        if not HF_HUB_OFFLINE:
            HfApi().model_info(name, timeout=10)
        elif not isinstance(downloaded, str):
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set, and no download of it is here")
    except (OSError, HTTPError, HFValidationError) as error:
        away = not isinstance(error, HfHubHTTPError | HFValidationError)
        if away and isinstance(downloaded, str):
            log.warning("%s: the hub cannot be reached; taking the copy of an earlier download", name)
            return str(Path(downloaded).parent)
        why = "it has none of this name, or none for you" if isinstance(error, RepositoryNotFoundError) else error
        why = str(why).strip().partition("\n")[0]
        raise BadInput(
            f"{key}: {name!r} is no directory here, and cannot be had from the hub ({why}); give a directory in "
            f"Hugging Face format, --{key}=DIR, or a hub id"
        ) from error
    return name


def load_policy(
    name: str,
    dtype: torch.dtype = torch.float32,
    four_bits: bool = False,
    weights: bool = True,
    trust_remote_code: bool = False,
    trained: bool = False,
) -> Policy:
    """Load a policy from the package, a local directory or the Hugging Face hub.

    Args:
        name: ``embedded``, a local directory, or a hub id.
        dtype: Of the parameters.
        four_bits: Store linear layers in NF4 by bitsandbytes and compute in ``dtype``.
        weights: Read them; otherwise parameters and buffers are on the device ``meta``, to be filled by ``shard``.
        trust_remote_code: Run code that comes with it; otherwise a policy that needs such code is refused.
        trained: Refuse weights that stay quantised, other than by ``four_bits``: a judge may have them.

    Raises:
        BadInput: If ``name`` looks like a path and does not exist, the tokenizer lacks a chat template or an EOS token,
            the architecture cannot be trained, weights are missing, do not fit or stay quantised, what was loaded could
            not be saved again, or bitsandbytes is needed and missing.
    """
    tokenizer, path = load_tokenizer(name, trust_remote_code=trust_remote_code), find_policy(name)
    config = load_config(path, trust_remote_code=trust_remote_code)
    if trained and _stays_quantised(config, four_bits):
        raise _quantised(path, config)
    common = {
        "dtype": dtype,
        "attn_implementation": attention_of(config),
        "trust_remote_code": trust_remote_code,
    }
    if weights:
        model = _read_model(path, config=config, quantization_config=_nf4(dtype) if four_bits else None, **common)
        if trained and not four_bits and _quantization(config):
            _settle_dequantised(model, path, config, dtype)
    else:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **common)
        with suppress(OSError):  # there need not be one
            model.generation_config = GenerationConfig.from_pretrained(path)
    _add_stops(model, tokenizer)
    mend_generation_config(model, name)
    use_faster_products(model)
    return Policy(model, tokenizer, trust_remote_code=trust_remote_code)


def _add_stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let completions end where answers do in the chat template, here and wherever the saved policy is used."""
    stops, eos = _stops(model), int(tokenizer.eos_token_id)
    end = ChatTemplate(tokenizer).end_of_turn(stops)
    if model.generation_config is not None and end != eos:
        model.generation_config.eos_token_id = list(dict.fromkeys([*stops, eos, end]))


def _read_model(path: str, **settings: Any) -> PreTrainedModel:
    """Read a model with all of its weights."""
    settings |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # which are named below
    try:
        model, report = AutoModelForCausalLM.from_pretrained(path, **settings)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(f"model.policy: the weights of {path!r} cannot be read ({why}); see the model's page") from error
    if unfit := sorted(report["mismatched_keys"]):
        name, found, expected = unfit[0]
        raise BadInput(
            f"model.policy: {len(unfit)} weights of {path!r} do not fit its config.json, such as {name}: "
            f"{tuple(found)} instead of {tuple(expected)}; take the two from one checkpoint"
        )
    if missing := sorted(report["missing_keys"]):
        raise BadInput(
            f"model.policy: {path!r} lacks {len(missing)} weights, such as {missing[0]}, which would start at random; "
            f"use a checkpoint of the causal language model, with its head"
        )
    return model


def _quantization(config: PretrainedConfig) -> Any:
    """Return how weights are quantised, as a config says; false if they are not."""
    text = config.get_text_config(decoder=True)
    return getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)


def _stays_quantised(config: PretrainedConfig, four_bits: bool) -> bool:
    """Return whether a checkpoint's config is enough to say that its weights would be neither plain nor QLoRA's."""
    found = _quantization(config)
    if not found:
        return False
    return not found.get("load_in_4bit") if four_bits else found.get("quant_method") not in _DEQUANTISED


def _settle_dequantised(model: PreTrainedModel, path: str, config: PretrainedConfig, dtype: torch.dtype) -> None:
    """Make weights that were dequantised such as others; refuse those that have stayed quantised."""
    if _quantization(model.config):  # which transformers removes when it dequantises
        raise _quantised(path, config)
    if dtype == torch.float32:
        model.float()  # MXFP4 becomes bfloat16
    model._weight_conversions = None  # by which FP8 would be saved as FP8 again, without saying so


def _quantised(path: str, config: PretrainedConfig) -> BadInput:
    """Return the error of a checkpoint whose weights stay quantised."""
    return BadInput(
        f"model.policy: the weights of {path!r} are quantised ({_quantization(config).get('quant_method')}), so that "
        f"most of them could not be trained; take the checkpoint that is not. For frozen weights of four bits under an "
        f"adapter, model.adapter.weights: nf4 quantises that one"
    )


def load_tokenizer(name: str, key: str = "model.policy", trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a policy that the config names under ``key``.

    Raises:
        BadInput: If there is none, or it lacks a chat template or an EOS token.
    """
    path = find_policy(name, key)
    try:
        # Mistral's own has no chat template, and is preferred where mistral-common is installed, as it is with vLLM.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, mistral_format=False
        )
    except (ValueError, KeyError) as error:
        raise BadInput(f"{key}: {why_unreadable(path, error)}") from error
    except OSError as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"{key}: {name!r} has no tokenizer that can be read ({why}); give a directory in Hugging Face format, "
            f"a hub id, or 'embedded'"
        ) from error
    for attribute in ("chat_template", "eos_token_id"):
        if getattr(tokenizer, attribute) is None:
            raise BadInput(f"{key}: the tokenizer of {name!r} has no {attribute}; use an instruct model")
    try:
        template_variables(tokenizer)
    except (TemplateError, ValueError) as error:
        raise BadInput(
            f"{key}: the chat template of {name!r} cannot be used ({error}); give it one named 'default', as "
            f"chat_template.jinja"
        ) from error
    return tokenizer


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's storage: four-bit normal floats, double quantised."""
    if find_spec("bitsandbytes") is None:
        raise BadInput(
            "model.adapter.weights is nf4, which needs bitsandbytes: pip install 'omnithink-pl[bitsandbytes]'"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def ready_to_train(
    model: PreTrainedModel, gradient_checkpointing: bool = False, kept_layers: int = 0
) -> PreTrainedModel:
    """Put a model into training mode, without dropout and other randomness: probability ratios are deterministic.

    Args:
        model: Is changed in place, and returned.
        gradient_checkpointing: Keep only the input of each layer for the backward pass, and compute it again there.
        kept_layers: Layers that are left out of that: the last ones, whose activations the backward pass frees first.

    Raises:
        BadInput: If it has fewer layers, or does not name them.
    """
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        found = layers(model)
        if kept_layers > len(found):
            raise BadInput(
                f"model.memory.kept_layers is {kept_layers}, but {type(model).__name__} has {len(found)} layers; "
                f"use at most as many"
            )
        for layer in found[len(found) - kept_layers :]:
            layer.gradient_checkpointing = False  # type: ignore[assignment]
    model.train()
    disable_randomness(model)
    return model


def save_policy(policy: Policy, directory: Path, here: bool = True) -> None:
    """Save a policy so that ``from_pretrained``, vLLM and ``model.policy`` can load it.

    Adapters are merged into the weights, and also saved by themselves in the folder ``adapter``, for
    ``PeftModel.from_pretrained``. A sharded policy is gathered tensor by tensor: all processes must call this, and one
    of them, with ``here``, writes; the folder is there whole or not at all.
    """
    model, adapted = policy.model, hasattr(policy.model, "peft_config")
    base = model.get_base_model() if adapted else model
    with torch.no_grad():
        weights = {name: value.cpu() for name, value in named_weights(model) if here}
    adapter = gathered({n: p for n, p in model.named_parameters() if p.requires_grad}) if adapted else {}
    if not here:
        return
    with whole_folder(directory) as folder:
        _plain(base).save_pretrained(folder, state_dict=weights)
        policy.tokenizer.save_pretrained(folder)
        if adapted:
            model.save_pretrained(folder / ADAPTER, state_dict=adapter)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model; for quantised weights, an empty one whose config does not say so: full weights are saved."""
    if not hasattr(model.config, "quantization_config"):
        return model
    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.device("meta"):
        return type(model)(config).to(model.dtype)


def named_weights(model: PreTrainedModel, merged: bool = True) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight's name in the checkpoint, and its value: at most one tensor that the model does not hold.

    Adapters (LoRA) are merged into copies of the weights that they adapt, or left out, without ``merged`` or within
    ``model.disable_adapter()``. 4-bit weights are dequantised. Sharded parameters (DTensor, FSDP2) are gathered, so
    every process must iterate. Tied weights come once.

    Raises:
        BadInput: If it has an adapter of a kind that cannot be merged here.
    """
    adapted = lora_layers(model) if merged else {}
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen or "lora_" in name or _SCALES in name:
            continue
        seen.add(id(value))
        module, _, leaf = name.rpartition(".")
        layer = adapted.get((module.replace(_PEFT_BASE, ""), leaf))
        if type(value).__name__ == "Params4bit":
            from peft.utils.integrations import dequantize_bnb_weight

            value = dequantize_bnb_weight(value)
        yield name.removeprefix(_PEFT_PREFIX).replace(_PEFT_BASE, ""), _merged(value.detach(), layer)


def lora_layers(model: PreTrainedModel) -> dict[tuple[str, str], Any]:
    """Return the LoRA layers of a model by module and parameter; PEFT is imported only if the model uses it.

    The experts of a mixture are parameters of one module, wrapped one around the other: ``experts.gate_up_proj``.
    """
    if not hasattr(model, "peft_config"):
        return {}
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    layers: dict[tuple[str, str], Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) or (
            isinstance(module, BaseTunerLayer) and not isinstance(module, LoraLayer)
        ):
            raise BadInput(
                f"the engine cannot take over {name!r}, an adapter of kind {type(module).__name__}; use plain LoRA "
                f"without modules_to_save"
            )
        if isinstance(module, LoraLayer):
            if getattr(module, "use_dora", {}) and any(module.use_dora.values()):
                raise BadInput(f"the engine cannot take over {name!r}: DoRA; use plain LoRA")
            layers[name.replace(_PEFT_BASE, ""), getattr(module, "parameter_name", "weight")] = module
    return layers


def _merged(weight: Tensor, layer: Any) -> Tensor:
    """Return a weight, gathered and with its active adapters."""
    merged = full(weight)
    if layer is None or layer.disable_adapters or layer.merged:
        return merged
    for adapter in layer.active_adapters:
        if adapter in layer.lora_A or adapter in layer.lora_embedding_A:
            with torch.autocast(merged.device.type, enabled=False):  # which a step may have on
                merged = merged + full(layer.get_delta_weight(adapter)).to(merged.dtype)
    return merged
