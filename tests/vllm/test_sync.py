"""Law 6: after a weight sync, engine and trainer agree; and weights that have not changed are not loaded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from transformers import PreTrainedModel

from omnithink_pl.errors import EngineFailure
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.rollout.agreement import PROMPTS, distance
from tests.tiny import tiny_llama, tiny_qwen, tiny_qwen3
from tests.vllm.engines import AGREE, FAR, attached, check_base_model_within, follow, train, with_lora

pytestmark = pytest.mark.slow


untied = partial(tiny_qwen, tie_word_embeddings=False)
Build = Callable[[], PreTrainedModel]


@pytest.fixture(
    scope="module", params=[tiny_qwen, untied, tiny_llama, tiny_qwen3], ids=["tied", "untied", "Llama", "Qwen3"]
)
def build(request: pytest.FixtureRequest) -> Build:
    return request.param


@pytest.fixture(scope="module")
def engine(build: Build, qwen_engine: ColocatedVLLM) -> ColocatedVLLM:
    return qwen_engine if build is tiny_qwen else attached(build())[0]


@pytest.mark.parametrize("adapt", [lambda model: model, with_lora], ids=["full", "LoRA"])
def test_law_6_engine_and_trainer_agree_after_every_sync(
    engine: ColocatedVLLM, build: Build, adapt: Callable[[PreTrainedModel], PreTrainedModel]
) -> None:
    policy = follow(engine, adapt(build()))
    assert distance(engine, policy.model) < AGREE
    for _ in range(2):
        train(policy)
        assert distance(engine, policy.model) > FAR, "training must move the policy far for this test to say anything"
        engine.sync()
        assert distance(engine, policy.model) < AGREE


def test_law_6_holds_after_two_hundred_syncs_of_lora_and_no_weight_has_drifted(qwen_engine: ColocatedVLLM) -> None:
    policy = follow(qwen_engine, with_lora(tiny_qwen()))
    before = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    for _ in range(200):
        policy.weights_changed()
        qwen_engine.sync()
    assert distance(qwen_engine, policy.model) < AGREE
    assert all(torch.equal(weight, before[name]) for name, weight in policy.model.state_dict().items())


def test_with_the_adapter_disabled_the_engine_is_the_base_model(qwen_engine: ColocatedVLLM) -> None:
    policy = follow(qwen_engine, with_lora(tiny_qwen()))
    check_base_model_within(policy.model.disable_adapter(), qwen_engine, policy)


def test_keys_and_values_of_old_weights_are_dropped(qwen_engine: ColocatedVLLM) -> None:
    # Prompts longer than a cache block, asked for again and again, so that the prefix cache has them.
    prompts = [prompt * 9 for prompt in PROMPTS[:2]]
    policy = follow(qwen_engine, tiny_qwen())
    assert distance(qwen_engine, policy.model, prompts=prompts) < AGREE
    train(policy)
    qwen_engine.sync()
    assert distance(qwen_engine, policy.model, prompts=prompts) < AGREE


def test_weights_are_loaded_once_per_version_and_again_after_a_failure(
    qwen_engine: ColocatedVLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = follow(qwen_engine, tiny_qwen())
    llm, loads = qwen_engine._llm, []
    load = llm.apply_model

    def counted(function: Callable[[object], object]) -> object:
        loads.append(policy.version)
        return load(function)

    monkeypatch.setattr(llm, "apply_model", counted)
    for _ in range(3):
        qwen_engine.sync()
    assert loads == []
    train(policy, steps=1)
    for _ in range(3):
        qwen_engine.sync()
    assert loads == [1]
    complete = dict(policy.model.state_dict())

    def incomplete(*_: object) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, value) for name, value in complete.items() if "layers.1.mlp.down" not in name)

    policy.weights_changed()
    with monkeypatch.context() as patch:
        patch.setattr("omnithink_pl.rollout.vllm.engine.named_weights", incomplete)
        with pytest.raises(EngineFailure, match=r"no value for the engine's model\.layers\.1\.mlp\.down_proj\.weight"):
            qwen_engine.sync()
    qwen_engine.sync()
    assert loads == [1, 2, 2]
    assert distance(qwen_engine, policy.model) < AGREE
