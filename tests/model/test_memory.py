"""State that waits on another device is there when a step is taken, and is what it would have been."""

from __future__ import annotations

import pytest
import torch
import torch._lazy.ts_backend
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from omnithink_pl.model.memory import HostedState
from omnithink_pl.model.sharding import full, shard
from tests.model.test_sharding import in_two_processes, mesh
from tests.tiny import random_tokens, tiny_qwen

ELSEWHERE = "lazy"  # a second device that every build of PyTorch has


@pytest.fixture(scope="module", autouse=True)
def second_device() -> None:
    torch._lazy.ts_backend.init()


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    tokens = torch.tensor([random_tokens(8, seed=number)[0]])
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()


def values(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values()]


def kinds(optimizer: torch.optim.Optimizer) -> set[str]:
    """Types of the devices on which the state is, or this process's part of it."""
    return {part(value).device.type for value in values(optimizer)}


@torch.no_grad()
def part(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def assert_equal(ours: torch.nn.Module, right: torch.nn.Module) -> None:
    for one, other in zip(ours.parameters(), right.parameters(), strict=True):
        assert torch.equal(full(one), full(other))


def two(sharded: bool = False) -> list[tuple[torch.nn.Module, torch.optim.AdamW]]:
    models = [tiny_qwen(), tiny_qwen()]
    for model in models if sharded else []:
        shard(model, mesh())
    return [(model, torch.optim.AdamW(model.parameters(), lr=1e-2)) for model in models]


def test_state_waits_elsewhere_between_steps_and_changes_none_of_them() -> None:
    (model, optimizer), (plain, right) = two()
    HostedState(optimizer, ELSEWHERE)
    seen: list[set[str]] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(kinds(optimizer)))
    for number in range(3):
        step(model, optimizer, number)
        assert kinds(optimizer) == {ELSEWHERE}
        assert all(p.grad is None for p in model.parameters())
        right.zero_grad()
        step(plain, right, number)
        assert_equal(model, plain)
    assert seen == [set(), {"cpu"}, {"cpu"}]
    assert len({id(value) for value in values(optimizer)}) == len(values(optimizer)) == len(values(right))
    for ours, expected in zip(values(optimizer), values(right), strict=True):
        assert torch.equal(ours.cpu(), expected)


def test_a_checkpoint_of_waiting_state_is_that_of_any_and_goes_on_as_any() -> None:
    (model, optimizer), (plain, right) = two()
    hosted = HostedState(optimizer, ELSEWHERE)
    step(model, optimizer, 0)
    step(plain, right, 0)
    saved, expected = optimizer.state_dict()["state"], right.state_dict()["state"]
    assert saved.keys() == expected.keys()
    for number, state in expected.items():
        assert all(torch.equal(saved[number][key].cpu(), value) for key, value in state.items())
    optimizer.load_state_dict(right.state_dict())
    hosted.release()
    assert kinds(optimizer) == {ELSEWHERE}
    right.zero_grad()
    step(model, optimizer, 1)
    step(plain, right, 1)
    assert_equal(model, plain)


def test_sharded_state_waits_too_and_is_read_where_it_is() -> None:
    def check(rank: int) -> None:
        (model, optimizer), (plain, right) = two(sharded=True)
        HostedState(optimizer, ELSEWHERE)
        for number in range(2):
            step(model, optimizer, number)
            assert kinds(optimizer) == {ELSEWHERE}
            right.zero_grad()
            step(plain, right, number)
        assert_equal(model, plain)
        ours, expected = optimizer.state_dict()["state"], right.state_dict()["state"]
        for number, state in expected.items():
            for key, value in state.items():
                assert torch.equal(part(ours[number][key]).cpu(), part(value))
        assert kinds(optimizer) == {ELSEWHERE}
        dist.barrier()

    in_two_processes(check)


def test_what_is_on_the_host_already_stays_what_it_is() -> None:
    (model, optimizer), _ = two()
    HostedState(optimizer)
    step(model, optimizer, 0)
    before = [id(value) for value in values(optimizer)]
    step(model, optimizer, 1)
    assert [id(value) for value in values(optimizer)] == before
