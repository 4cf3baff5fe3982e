"""The engines on vLLM, as far as they do not need vLLM."""

from __future__ import annotations

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm import ColocatedVLLM, VLLMServer, process
from omnithink_pl.rollout.vllm.engine import advice


@pytest.mark.parametrize("engine", [ColocatedVLLM, VLLMServer])
def test_without_vllm_asking_for_it_names_the_command(engine: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="make setup-vllm"):
        engine()


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        ("No available memory for the cache blocks", "kv_cache_gib"),
        ("Free memory on device is less than desired", "gpu_memory_utilization"),
        ("User-specified max_model_len is greater", "max_context"),
    ],
)
def test_an_engines_error_names_the_setting(message: str, setting: str) -> None:
    assert setting in advice(message)


@pytest.mark.parametrize(
    ("engine", "setting", "wrong"),
    [
        (ColocatedVLLM, "max_rows", 0),
        (ColocatedVLLM, "tensor_parallel_size", 0),
        (ColocatedVLLM, "gpu_memory_utilization", 1.5),
        (VLLMServer, "url", "localhost:8000"),
    ],
)
def test_invalid_settings_are_refused(engine: type, setting: str, wrong: object) -> None:
    with pytest.raises(BadInput, match=setting):
        engine(**{setting: wrong})
