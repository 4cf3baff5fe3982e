"""LoRA: training low-rank matrices beside frozen weights, and what a checkpoint holds of them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import Policy, load_policy, lora_layers

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters: W + alpha / rank * B A, of which A and B are trained (Hu et al. 2021, arXiv 2106.09685).

    There is no dropout: probability ratios must be deterministic. Adapters are float32 whatever the weights are, and
    start with B = 0, equal to the base model.

    Args:
        rank: Rows of A.
        alpha: Divided by ``rank``, the scale of the adapters.
        target_modules: Names of the layers that are adapted, or ``all-linear`` for all but the output embedding.
        weights: Of the frozen model: ``float32``; ``bfloat16``, half of the memory; or ``nf4``, four bits a weight
            (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), which needs bitsandbytes: ``pip install
            'omnithink-pl[bitsandbytes]'``.
    """

    rank: int = 32
    alpha: int = 32
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    weights: Literal["float32", "bfloat16", "nf4"] = "float32"

    def peft_config(self) -> LoraConfig:
        """Return PEFT's configuration.

        Raises:
            BadInput: If a value is out of range; not at construction, where the parser would bury the message.
        """
        from peft import LoraConfig

        for key in ("rank", "alpha"):
            if getattr(self, key) < 1:
                raise BadInput(f"model.adapter.{key} is {getattr(self, key)}; use 1 or more")
        if not self.target_modules:
            raise BadInput("model.adapter.target_modules is empty; name layers, such as q_proj, or use all-linear")
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=self.target_modules,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )


def build_policy(
    name: str, adapter: LoRA | None, seed: int, weights: bool = True, trust_remote_code: bool = False
) -> Policy:
    """Load a policy by ``load_policy``, with adapters, whose initial values follow the seed, if it is trained by them.

    Raises:
        BadInput: If the policy has no such layers, or they share weights; cannot be loaded, or would be trained in too
            low a precision.
    """
    stored = torch.get_default_dtype()  # trainer.precision has set it
    if stored == torch.float16:
        raise BadInput("trainer.precision: 16-true has no loss scaling, so gradients vanish; use bf16-mixed")
    if adapter is None:
        return load_policy(name, stored, weights=weights, trust_remote_code=trust_remote_code, trained=True)
    if stored == torch.bfloat16:
        raise BadInput(
            "trainer.precision: bf16-true would store adapters in bfloat16 too; use bf16-mixed or 32-true, and "
            "model.adapter.weights=bfloat16 for what is frozen"
        )
    config = adapter.peft_config()
    from peft import get_peft_model

    four_bits = adapter.weights == "nf4"
    dtype = torch.bfloat16 if four_bits else getattr(torch, adapter.weights)
    policy = load_policy(name, dtype, four_bits, weights or four_bits, trust_remote_code, trained=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            policy.model = get_peft_model(policy.model, config)
        except ValueError as error:
            raise BadInput(f"model.adapter.target_modules: {error}; name layers that {name!r} has") from error
    _refuse_shared_weights(policy.model)
    return policy


def _refuse_shared_weights(model: PreTrainedModel) -> None:
    """Refuse adapters of a weight that other modules hold too: merged into it, they would change these as well.

    A tied head is such a module, and each repetition of Zamba2's shared blocks.
    """
    base, layers = model.get_base_model(), lora_layers(model)
    holders: dict[int, list[str]] = {}
    for name, module in base.named_modules():  # each once, wherever it is repeated as a whole, adapter included
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(name.replace(".base_layer", ""))
    of_layers = [holders[id(getattr(layer.get_base_layer(), leaf))] for (_, leaf), layer in layers.items()]
    shared = [names for names in of_layers if len(names) > 1]
    if shared:
        taken = {_last(name) for names in shared for name in names}
        rest = sorted({_last(name) for name, leaf in layers if leaf == "weight"} - taken)
        cure = f"set it to [{', '.join(rest)}]" if rest else "name other layers"
        raise BadInput(
            f"model.adapter.target_modules: the weight of {shared[0][0]} is that of {shared[0][1]} too, so that an "
            f"adapter of it could not be saved; {cure}, whose weights are their own"
        )


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def check_adapter(checkpoint: Mapping[str, Any], module: torch.nn.Module) -> None:
    """Refuse a checkpoint whose adapters are not the module's; name the first difference."""
    saved = {name: tuple(value.shape) for name, value in checkpoint.get("state_dict", {}).items()}
    own = {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}
    if saved and saved != own:
        name = min({name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name)})
        raise BadInput(
            f"--ckpt_path: the checkpoint was written with another model.adapter: {name} is {saved.get(name)} there "
            f"and {own.get(name)} here; use the same adapter, or start anew without --ckpt_path"
        )


def save_adapters(checkpoint: MutableMapping[str, Any], module: torch.nn.Module) -> None:
    """Leave out frozen weights, and key the optimiser's state by names: its numbers are those of trained ones alone."""
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name: state[name] for name in _names(module)}
    names = dict(enumerate(_names(module)))
    checkpoint["optimizer_states"] = [_renamed(state, names) for state in checkpoint.get("optimizer_states", [])]


def load_adapters(checkpoint: MutableMapping[str, Any], module: torch.nn.Module) -> None:
    """Key the optimiser's state by numbers again, as an optimiser does."""
    numbers = {name: number for number, name in enumerate(_names(module))}
    checkpoint["optimizer_states"] = [_renamed(state, numbers) for state in checkpoint.get("optimizer_states", [])]


def _names(module: torch.nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an optimiser's state under other keys."""
    groups = [{**group, "params": [names.get(one, one) for one in group["params"]]} for group in state["param_groups"]]
    return {"state": {names.get(one, one): values for one, values in state["state"].items()}, "param_groups": groups}
