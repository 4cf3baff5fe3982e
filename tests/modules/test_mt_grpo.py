"""Training in mixed precision and with gradient checkpointing: the same step, more coarsely or with less memory."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch

from benchmarks.ours import Arithmetic, OneStage
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.collection import RolloutSettings
from omnithink_pl.grpo.kl_control import KLSettings
from omnithink_pl.model.logprobs import TokenLogprobs, token_logprobs
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.modules.test_sft import QUIET


class Watched(L.Callback):
    """What each step measured, and its gradient."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.gradients: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *arguments: Any) -> None:
        self.metrics.append(module.last_metrics)
        assert all(p.grad is None for p in module.model.parameters()), "rollouts take the memory"

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        self.gradients.append(torch.cat([p.grad.flatten().float() for p in module.model.parameters()]))


def fit(precision: str = "32-true", steps: int = 1, **settings: Any) -> tuple[MultiTaskGRPO, Watched]:
    data = MultiTaskData({"math": Arithmetic(2)}, batch_size=2)
    module = MultiTaskGRPO(
        engine=TransformersEngine(),
        tasks=data.tasks,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
        sampling=Sampling(4, max_tokens=12),
        kl=KLSettings({"math": 0.05}),
        max_grad_norm=1e9,
        **settings,
    )
    watched = Watched()
    callbacks = [OneStage(Stage({"math": 1.0}, steps)), watched]
    trainer = L.Trainer(**QUIET, devices=1, precision=precision, callbacks=callbacks, use_distributed_sampler=False)
    trainer.fit(module, datamodule=data)
    return module, watched


@pytest.fixture(scope="module")
def plain() -> tuple[MultiTaskGRPO, Watched]:
    return fit()


@pytest.fixture(scope="module")
def mixed() -> tuple[MultiTaskGRPO, Watched]:
    return fit("bf16-mixed")


def logprobs(module: MultiTaskGRPO) -> TokenLogprobs:
    """Of the last rollouts, under the present weights."""
    groups = [rollout.group for rollout in module.last_rollouts]
    completions = [[completion.token_ids for completion in group.completions] for group in groups]
    return token_logprobs(module.model, [group.prompt_ids for group in groups], completions)


def test_law_5_in_mixed_precision_sampler_and_trainer_agree_as_far_as_its_digits_go(plain, mixed) -> None:
    exact, coarse = plain[1].metrics[0], mixed[1].metrics[0]
    assert exact["train/logprob_diff_mean"] < 1e-5
    assert 1e-5 < coarse["train/logprob_diff_mean"] < 3e-2
    assert coarse["train/clip_fraction"] == 0.0


def test_law_3_in_mixed_precision_gradients_point_where_those_of_float32_do(mixed) -> None:
    module, _ = mixed
    found = []
    for autocast in (False, True):
        module.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            result = logprobs(module)
        assert result.logprobs.dtype == result.entropy.dtype == torch.float32
        result.logprobs.sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in module.model.parameters()]))
    assert {p.dtype for p in module.model.parameters()} == {p.grad.dtype for p in module.model.parameters()}
    assert found[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.999
    assert not torch.equal(*found)


def test_bf16_true_trains_weights_of_half_the_size_in_the_same_direction() -> None:
    module, watched = fit("bf16-true")
    for model in (module.model, module.reference.model):
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert watched.metrics[0]["train/logprob_diff_mean"] < 3e-2
    found = []
    for model in (module.model, copy.deepcopy(module.model).float()):
        module.model = model
        model.zero_grad()
        logprobs(module).logprobs.sum().backward()
        found.append(torch.cat([p.grad.flatten().float() for p in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99
    assert not torch.equal(*found)


@pytest.mark.parametrize("settings", [{}, {"segment_tokens": 3}, {"async_rewards": True}])
def test_a_module_whose_rollouts_may_outlive_a_step_says_so(settings: dict[str, Any]) -> None:
    module = MultiTaskGRPO(TransformersEngine(), {}, torch.optim.SGD, rollouts=RolloutSettings(**settings))
    assert module.samples_ahead == bool(settings)


def test_gradient_checkpointing_keeps_less_and_changes_no_gradient(plain) -> None:
    module, watched = fit(memory=MemorySettings(gradient_checkpointing=True))
    torch.testing.assert_close(watched.gradients, plain[1].gradients, atol=1e-5, rtol=1e-5)
    assert kept(module) < 0.5 * kept(plain[0])


def test_layers_that_checkpointing_leaves_out_keep_more_and_change_no_gradient(plain) -> None:
    every, watched = fit(memory=MemorySettings(gradient_checkpointing=True))
    some, again = fit(memory=MemorySettings(gradient_checkpointing=True, kept_layers=1))
    torch.testing.assert_close(again.gradients, watched.gradients, atol=1e-5, rtol=1e-5)
    assert kept(every) < kept(some) < kept(plain[0])
    with pytest.raises(BadInput, match=r"kept_layers is 100, but \w+ has \d+ layers; use at most as many"):
        fit(memory=MemorySettings(gradient_checkpointing=True, kept_layers=100))


def kept(module: MultiTaskGRPO) -> int:
    """Bytes that wait for the backward pass."""
    sizes = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logprobs(module)
    return sum(sizes)
