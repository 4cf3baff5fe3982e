"""In training mode a model is one function of its weights, whatever dropout and noise its config asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from omnithink_pl.model.policy import ready_to_train
from omnithink_pl.model.randomness import disable_randomness
from tests.model.architectures import SMALL_VISION, tiny
from tests.tiny import random_tokens

TOKENS = torch.tensor(random_tokens(12))
RANDOM: dict[str, dict[str, Any]] = {
    "seed_oss": {"residual_dropout": 0.3, "attention_dropout": 0.3},
    "starcoder2": {"residual_dropout": 0.3, "embedding_dropout": 0.3},
    "opt": {"dropout": 0.3, "attention_dropout": 0.3, "layerdrop": 0.5},
    "gpt_bigcode": {"resid_pdrop": 0.3, "attn_pdrop": 0.3},
    "gpt2": {"resid_pdrop": 0.3, "attn_pdrop": 0.3},
    "biogpt": {"hidden_dropout_prob": 0.3, "activation_dropout": 0.3, "layerdrop": 0.5},
    "xglm": {"dropout": 0.3, "activation_dropout": 0.3},
    "gpt_neox": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "phi": {"resid_pdrop": 0.3},
    "bloom": {"hidden_dropout": 0.3},
    "phimoe": {"router_jitter_noise": 0.2, "input_jitter_noise": 0.2},
    "mixtral": {"router_jitter_noise": 0.2},
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")  # GPTBigCode's
@pytest.mark.parametrize("kind", RANDOM)
def test_training_mode_computes_what_evaluation_mode_does(kind: str) -> None:
    model = tiny(kind, **RANDOM[kind])
    with torch.no_grad():
        expected = model.eval()(TOKENS).logits
        model.train()
        assert not torch.equal(model(TOKENS).logits, model(TOKENS).logits), "this model is not random"
        ready_to_train(model)
        assert model.training
        assert torch.allclose(model(TOKENS).logits, expected, atol=1e-5)
        assert torch.equal(model(TOKENS).logits, model(TOKENS).logits)


def test_the_config_that_is_saved_has_no_dropout_either() -> None:
    model = tiny("gemma3", vision_config=SMALL_VISION | {"attention_dropout": 0.1})
    model.config.text_config.attention_dropout = 0.1
    disable_randomness(model)
    assert model.config.text_config.attention_dropout == model.config.vision_config.attention_dropout == 0.0


def test_a_routers_threshold_is_kept() -> None:
    model = tiny("phimoe", router_jitter_noise=0.2)
    disable_randomness(model)
    assert model.config.router_jitter_noise == 0.2
    assert {m.router_jitter_noise for m in model.modules() if hasattr(m, "router_jitter_noise")} == {0.2}
