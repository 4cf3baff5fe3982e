"""A real pretrained model passes the checks at a run's start, is trained on four tasks, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real.fit import fit

pytestmark = pytest.mark.slow


def test_real_steps_with_all_rewards_change_the_weights_which_are_saved_as_they_are(
    real_model: Path, tmp_path: Path, tracking_uri: str
) -> None:
    model = fit(real_model, tmp_path, tracking_uri)
    (saved,) = (path for path in tmp_path.rglob("policy") if not path.is_symlink())
    text = AutoTokenizer.from_pretrained(saved).encode("The sea was calm, and", return_tensors="pt")
    with torch.no_grad():
        trained = model.policy.model(text).logits
        reloaded, base = (AutoModelForCausalLM.from_pretrained(path)(text).logits for path in (saved, real_model))
    torch.testing.assert_close(reloaded, trained, atol=1e-4, rtol=0)
    assert (reloaded - base).abs().max() > 1e-4
