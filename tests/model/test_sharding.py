"""A model divided among two processes computes what one process computes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.device_mesh import init_device_mesh
from transformers import PreTrainedModel

from omnithink_pl.distributed.collectives import clip_gradients
from omnithink_pl.grpo.reference import AdaptedReference, FrozenCopy
from omnithink_pl.model.adapter import LoRA, build_policy
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.micro_batches import padding_passes
from omnithink_pl.model.policy import named_weights
from omnithink_pl.model.precision import gathered_in
from omnithink_pl.model.sharding import full, shard, sharded_modules, whole
from tests.distributed.ranks import in_processes
from tests.tiny import random_tokens, tiny_qwen

PROMPTS, COMPLETIONS = random_tokens(5, 9, 3), [random_tokens(n, n + 4, seed=n) for n in (6, 3, 8)]
MINE = {0: [0], 1: [1, 2]}  # one micro-batch here, two there


def with_lora() -> PreTrainedModel:
    """Frozen weights of half the size, and adapters in float32 that already do something."""
    targets = ["q_proj", "down_proj"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        return get_peft_model(tiny_qwen().to(torch.bfloat16), config)


def logprobs(model: PreTrainedModel, group: int) -> torch.Tensor:
    return token_logprobs(model, [PROMPTS[group]], [COMPLETIONS[group]]).logprobs


def in_two_processes(check: Callable[[int], None]) -> None:
    def process(rank: int) -> None:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
        check(rank)
        dist.barrier()  # the first process must not leave while the other still looks for it
        dist.destroy_process_group()

    assert in_processes(2, process) == [0, 0]


def mesh(tensor_parallel: int = 1) -> torch.distributed.device_mesh.DeviceMesh:
    shape = (2 // tensor_parallel, tensor_parallel)
    return init_device_mesh("cpu", shape, mesh_dim_names=("data_parallel", "tensor_parallel"))


@pytest.mark.parametrize("reduce_once", [False, True], ids=["each pass", "once"])
@pytest.mark.parametrize(("make", "tolerance"), [(tiny_qwen, 1e-6), (with_lora, 1e-2)], ids=["full", "LoRA"])
def test_gradients_norm_and_weights_are_those_of_the_whole_batch(
    make: Callable[[], PreTrainedModel], tolerance: float, reduce_once: bool
) -> None:
    def check(rank: int) -> None:
        alone, model = make(), make()
        sum(logprobs(alone, group).sum() for group in range(3)).backward()
        shard(model, mesh())
        with padding_passes(model, len(MINE[rank]), lambda loss: loss.backward(), reduce_once) as passes:
            for group in MINE[rank]:
                passes.backward(logprobs(model, group).sum())
        for ours, right in zip(model.parameters(), alone.parameters(), strict=True):
            assert (ours.grad is None) == (right.grad is None) == (not right.requires_grad)
            if right.grad is not None:
                scale = float(right.grad.abs().max())
                torch.testing.assert_close(full(ours.grad), right.grad, atol=tolerance * scale, rtol=tolerance)
        norm = clip_gradients(model.parameters(), 0.5)
        assert norm == pytest.approx(clip_gradients(alone.parameters(), 0.5), rel=tolerance)
        weights = dict(named_weights(model))
        for name, right in named_weights(alone):
            torch.testing.assert_close(weights[name], right)

    in_two_processes(check)


@pytest.mark.parametrize("reduce_once", [False, True], ids=["each pass", "once"])
def test_gradients_that_are_computed_in_bfloat16_are_as_near_to_those_of_float32_as_in_one_process(
    reduce_once: bool,
) -> None:
    def check(rank: int) -> None:
        alone, half, model = tiny_qwen(), tiny_qwen().to(torch.bfloat16), tiny_qwen()
        for one in (alone, half):
            sum(logprobs(one, group).sum() for group in range(3)).backward()
        shard(model, mesh(), gathered_in(torch.bfloat16))
        with padding_passes(model, len(MINE[rank]), lambda loss: loss.backward(), reduce_once) as passes:
            for group in MINE[rank]:
                passes.backward(logprobs(model, group).sum())
        assert {p.grad.dtype for p in model.parameters()} == {torch.float32}  # summed in it
        right, ours, theirs = (
            torch.cat([full(p.grad).flatten() for p in one.parameters()]) for one in (alone, model, half)
        )
        assert 0 < torch.dist(ours, right) < 1.2 * torch.dist(theirs.float(), right)

    in_two_processes(check)


def test_sampling_needs_no_other_process_and_leaves_the_model_sharded_but_single_matrices_are_not() -> None:
    def check(rank: int) -> None:
        alone, model = tiny_qwen(), tiny_qwen()
        shard(model, mesh())
        with pytest.raises(ValueError, match=r"tensor parallelism is not supported; set tensor_parallel_size to 1"):
            shard(tiny_qwen(), mesh(tensor_parallel=2))
        held = sum(p.to_local().numel() for p in model.parameters())
        with torch.no_grad(), whole(model):
            for group in MINE[rank]:
                torch.testing.assert_close(logprobs(model, group), logprobs(alone, group))
        assert sum(p.to_local().numel() for p in model.parameters()) == held < 0.6 * alone.num_parameters()
        with torch.no_grad(), padding_passes(model, len(MINE[rank])):
            for group in MINE[rank]:
                torch.testing.assert_close(logprobs(model, group), logprobs(alone, group))
        assert sharded_modules(model)
        assert not sharded_modules(alone)

    in_two_processes(check)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, weights="bfloat16")], ids=["full", "LoRA"])
def test_only_the_first_process_needs_the_weights(adapter: LoRA | None) -> None:
    def check(rank: int) -> None:
        alone = build_policy("embedded", adapter, seed=rank).model
        expected = build_policy("embedded", adapter, seed=0).model  # as the first process has it
        model = build_policy("embedded", adapter, seed=rank, weights=rank == 0).model
        assert model.generation_config.eos_token_id == alone.generation_config.eos_token_id
        if rank == 1:
            assert all(p.is_meta for name, p in model.named_parameters() if "lora_" not in name)
        shard(model, mesh())
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in alone.parameters()]
        for (name, ours), right in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert full(ours).dtype == right.dtype
            assert torch.equal(full(ours), right), name
        for (name, held), right in zip(model.named_buffers(), expected.buffers(), strict=True):
            assert torch.equal(held, right), name
        with torch.no_grad():
            ours, right = (logprobs(one, 0) for one in (model, expected))
        torch.testing.assert_close(ours, right, atol=0 if adapter is None else 1e-2, rtol=1e-6)

    in_two_processes(check)


def test_references_are_divided_too_and_come_back_whole() -> None:
    def check(rank: int) -> None:
        alone, model, adapted = tiny_qwen(), tiny_qwen(), with_lora()
        frozen, small = FrozenCopy(model, "stage", offload=True), AdaptedReference(adapted, "stage")
        before = dict(adapted.named_parameters())
        for one in (model, frozen.model, adapted):
            shard(one, mesh())
        with torch.no_grad():
            for parameter in (*model.parameters(), *adapted.parameters()):
                parameter.mul_(1.5)
        for reference, policy in ((frozen, model), (small, adapted)):
            reference.begin_stage(policy)
        state = frozen.state_dict()
        for name, value in alone.named_parameters():
            torch.testing.assert_close(full(state[name]), value * 1.5)
        with frozen.active() as active, torch.no_grad():
            logprobs(active, rank)
        kept = {name: full(value) for name, value in small.state_dict().items()}
        assert kept.keys() == {name for name in before if "lora_" in name}
        small.load_state_dict(kept)
        again = small.state_dict()
        assert again.keys() == kept.keys()
        assert all(torch.equal(full(value), kept[name]) for name, value in again.items())

    in_two_processes(check)
