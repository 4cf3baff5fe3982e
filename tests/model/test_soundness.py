"""A policy that computes NaN is told from one that does not, and refused before it is evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from main import CONFIGS, main
from omnithink_pl.errors import OmniThinkError
from omnithink_pl.model.policy import load_policy, save_policy
from omnithink_pl.model.soundness import unsound
from tests.model.architectures import tiny
from tests.tiny import tiny_qwen


def test_weights_that_are_not_finite_are_named() -> None:
    model = tiny_qwen()
    assert unsound(model) == ""
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 2] = float("nan")
    assert unsound(model) == "its weights model.layers.1.mlp.up_proj.weight are not finite"


def test_weights_under_which_logits_overflow_are_unsound() -> None:
    model = tiny_qwen()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e3)
        model.model.norm.weight.fill_(3e38)
    assert "so large that its logits are not finite" in unsound(model)


def test_a_model_that_cannot_be_called_is_unsound() -> None:
    why = unsound(tiny("xmod"))  # which has to be told the language
    assert why.startswith("a plain forward pass fails (ValueError: Input language unknown.")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.distributed.DistBackendError, RuntimeError])
def test_what_the_machine_lacks_is_no_property_of_the_model(error: type[Exception]) -> None:
    model = tiny_qwen()

    def fails(*_: object) -> None:
        raise error

    model.lm_head.register_forward_pre_hook(fails)
    with pytest.raises(error):
        unsound(model)


def test_a_policy_of_nan_is_refused_at_the_start_instead_of_scoring_0_percent(
    tmp_path: Path, tracking_uri: str
) -> None:
    policy = load_policy("embedded")
    save_policy(policy, tmp_path / "broken")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "broken" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    given = [f"--config={CONFIGS}/curriculum.yaml", f"--model.policy={tmp_path}/broken"]
    given += [f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.init_args.tracking_uri={tracking_uri}"]
    with pytest.raises(OmniThinkError, match=rf"{name} are not finite"):
        main(["fit", *given])
