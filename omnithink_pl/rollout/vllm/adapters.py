"""LoRA that the engine serves as adapters, beside the base model's weights, instead of merged into a copy of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import lora_layers
from omnithink_pl.model.sharding import full

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of which vLLM takes the largest that an adapter may have
MEMORY = Path("/dev/shm")  # files here are never written to a disk
KEY = "model.engine.init_args.serve_adapters"


class ServedAdapters:
    """Hands the policy's adapters to an engine, anew after each update.

    vLLM reads adapters from files, and keeps those that it knows by number: each version is a new adapter.
    """

    def __init__(self) -> None:
        self.request: LoRARequest | None = None  # what requests name, once an adapter is loaded
        self._number = 0

    @staticmethod
    def arguments(model: PreTrainedModel) -> dict[str, Any]:
        """Return the engine's arguments.

        Raises:
            BadInput: If the policy has no adapters, or some that vLLM does not serve.
        """
        layers = lora_layers(model)
        if not layers:
            raise BadInput(f"{KEY} is true, and the policy has no adapters; set model.adapter, or leave it out")
        ranks = [rank for layer in layers.values() for rank in layer.r.values()]
        linear = all(leaf == "weight" and layer.lora_B for (_, leaf), layer in layers.items())
        if not linear or max(ranks) > RANKS[-1]:
            raise BadInput(
                f"{KEY}: adapters of experts or embeddings, or of a rank above {RANKS[-1]}, can only be merged; set it "
                f"false"
            )
        return {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": next(rank for rank in RANKS if rank >= max(ranks)),
        }

    def load(self, llm: LLM, model: PreTrainedModel) -> None:
        """Load the adapters as they are, at the scale that they have: none, where the reference is computed.

        Every process calls this, because sharded adapters are gathered.
        """
        from vllm.lora.request import LoRARequest

        self._number += 1
        before = self.request
        with TemporaryDirectory(prefix="omnithink-adapter-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
            model.save_pretrained(folder, state_dict=scaled_adapters(model), save_embedding_layers=False)
            self.request = LoRARequest(f"policy-{self._number}", self._number, folder)
            llm.llm_engine.add_lora(self.request)
        if before is not None:
            llm.llm_engine.remove_lora(before.lora_int_id)


def scaled_adapters(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the adapters' weights by name; what differs from the scale in their config, alpha / rank, is in B."""
    state = {name: full(p.detach()).cpu() for name, p in model.named_parameters() if "lora_" in name}
    for (module, _), layer in lora_layers(model).items():
        for adapter, rank in layer.r.items():
            scale = 0.0 if layer.disable_adapters else layer.scaling[adapter] / (layer.lora_alpha[adapter] / rank)
            name = f"{module}.lora_B.{adapter}.weight"
            state[name] = state[name] * scale  # a copy: on a CPU these are the policy's own
    return state
