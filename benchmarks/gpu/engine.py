"""The vLLM engine inside the training process: agreement with the trainer, decoding, weight sync, sleep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.gpu.case import Case, digits
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import Policy, load_policy, load_tokenizer, ready_to_train
from omnithink_pl.rollout import ColocatedVLLM, Sampling

Dtype = Literal["float32", "bfloat16"]
CONTEXT = 2048  # tokens of a prompt with its completion


def loaded(case: Case, dtype: Dtype) -> Policy:
    """Return the policy that was asked for, or one of Qwen2.5-0.5B's shape with random weights."""
    if case.policy:
        policy = load_policy(case.policy, getattr(torch, dtype))
    else:
        torch.manual_seed(0)
        tokenizer = load_tokenizer("embedded")
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = Qwen2Config(**case.engine, **ends, max_position_embeddings=CONTEXT)
        policy = Policy(Qwen2ForCausalLM(config).to(getattr(torch, dtype)), tokenizer)
    ready_to_train(policy.model).to(case.device)
    return policy


def attached(case: Case, dtype: Dtype, graphs: bool = True, sleep: bool = False) -> tuple[Policy, ColocatedVLLM, float]:
    """Return a policy, an engine that samples from it, and the seconds of its start."""
    policy = loaded(case, dtype)
    cache = 0.05 if case.device == "cpu" else 4.0
    engine = ColocatedVLLM(dtype, 256, min(CONTEXT, policy.context), cache, 0.5, cuda_graphs=graphs, sleep=sleep)
    return policy, engine, elapsed(case, lambda: engine.attach(policy))


def elapsed(case: Case, call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    case.synchronize()
    began = time.perf_counter()
    call()
    case.synchronize()
    return time.perf_counter() - began


def prompts(case: Case, policy: Policy, count: int) -> list[list[int]]:
    """Return prompts of random tokens."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = min(policy.model.config.vocab_size, len(policy.tokenizer))
    return torch.randint(3, vocabulary, (count, case.prompt), generator=generator).tolist()


def parity(case: Case, dtype: Dtype) -> Iterator[dict[str, Any]]:
    """Compare the sampler's log-probabilities with those of a training forward in the same dtype, in nats a token."""
    policy, engine, _ = attached(case, dtype)
    asked = prompts(case, policy, 8)
    groups = engine.generate(asked, Sampling(4, max_tokens=min(256, 2 * case.longest)), range(8))
    sampled = [value for group in groups for completion in group for value in completion.logprobs]
    with torch.no_grad():
        found = token_logprobs(policy.model, asked, [[c.token_ids for c in group] for group in groups])
    moved = (found.logprobs[found.mask].cpu() - torch.tensor(sampled)).abs()
    row = {"dtype": dtype, "tokens": len(moved), "mean": digits(float(moved.mean()))}
    yield row | {"largest": digits(float(moved.max())), "entropy": digits(float(found.entropy[found.mask].mean()))}


def decoding(case: Case, graphs: bool) -> Iterator[dict[str, Any]]:
    """Time a token of many rows: the difference between long and short completions, so that prompts do not count."""
    policy, engine, start = attached(case, "bfloat16" if case.device == "cuda" else "float32", graphs)
    yield {"graphs": graphs, "start_seconds": digits(start)}
    short, long = (4, 16) if case.device == "cpu" else (16, 272)
    for rows in (32, 128, 256) if case.device == "cuda" else (4,):
        asked, taken = prompts(case, policy, rows), {}
        for tokens in (short, long):
            sampling = Sampling(1, max_tokens=tokens)
            engine.generate(asked, sampling, range(rows))  # prompts are in the prefix cache from here on
            taken[tokens] = statistics.median(
                elapsed(case, lambda s=sampling, a=asked, n=rows: engine.generate(a, s, range(n)))  # type: ignore[misc]
                for _ in range(2)
            )
        per_token = (taken[long] - taken[short]) / (long - short)
        row = {"graphs": graphs, "rows": rows, "ms_per_token": digits(1000 * per_token)}
        yield row | {"tokens_per_second": digits(rows / per_token)}


def sync(case: Case) -> Iterator[dict[str, Any]]:
    """Time loading all weights into the engine."""
    policy, engine, _ = attached(case, "bfloat16" if case.device == "cuda" else "float32", graphs=False)
    size = sum(parameter.nbytes for parameter in policy.model.parameters()) / 2**30
    for _ in range(3):
        policy.weights_changed()
        yield {"weights_gib": digits(size), "seconds": digits(elapsed(case, engine.sync))}


def sleep(case: Case, level: int) -> Iterator[dict[str, Any]]:
    """Time falling asleep and waking, with the GiB in use; then the engine must compute what it did before."""
    policy, engine, _ = attached(case, "bfloat16" if case.device == "cuda" else "float32", sleep=True)
    asked, sampling = prompts(case, policy, 4), Sampling(1, 0.0, max_tokens=16)
    llm = engine._llm
    assert llm is not None
    if level == 2:  # as in training
        before = engine.generate(asked, sampling, range(4))
        row = {"level": 2, "asleep_gib": used(case)}
        row |= {"weights_seconds": digits(elapsed(case, engine.sync)), "weights_gib": used(case)}
        after: Any = None

        def sampled() -> None:
            nonlocal after
            after = engine.generate(asked, sampling, range(4))

        yield row | {"sample_and_sleep_seconds": digits(elapsed(case, sampled)), "equal": after == before}
        return
    awake = used(case)
    asleep = elapsed(case, lambda: llm.sleep(level=1))
    row = {"level": 1, "awake_gib": awake, "sleep_seconds": digits(asleep), "asleep_gib": used(case)}
    yield row | {"wake_seconds": digits(elapsed(case, llm.wake_up)), "again_gib": used(case)}


def used(case: Case) -> float | None:
    """Return the GiB of GPU memory in use, by all processes; ``None`` on a CPU."""
    if case.device != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return digits((total - free) / 2**30)
