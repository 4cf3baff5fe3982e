"""Between our nouns and vLLM's: prompts and sampling out, completions back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from omnithink_pl.rollout.decoding import stop_ids
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import Sampling


def request_seed(seed: int) -> int:
    """For a request: vLLM gives its samples the seeds s, s + 1, ..., and those of neighbouring seeds must not meet."""
    return derive_seed("request", seed)


def sampling_settings(policy: Policy, sampling: Sampling) -> dict[str, Any]:
    """The arguments of vLLM's ``SamplingParams`` that all prompts of a batch share."""
    return {
        "n": sampling.n,
        "temperature": sampling.temperature,
        "top_p": 1.0 if sampling.temperature == 0.0 else sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop_token_ids": stop_ids(policy),
        "logprobs": 0,  # of the sampled token only
    }


def sampling_params(policy: Policy, sampling: Sampling, seeds: Sequence[int]) -> list[SamplingParams]:
    """One request a prompt: its ``n`` samples share the prompt's computation where vLLM's prefix cache allows."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    shared = sampling_settings(policy, sampling)
    return [
        SamplingParams(**shared, seed=request_seed(seed), detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
        for seed in seeds
    ]


def finished_requests(
    llm: LLM, policy: Policy, requests: Iterable[tuple[Sequence[int], SamplingParams]]
) -> Iterator[tuple[int, tuple[Completion, ...]]]:
    """Run requests, and give each one's place and completions as soon as all of its samples have ended."""
    engine = llm.llm_engine
    for place, (prompt, params) in enumerate(requests):
        engine.add_request(str(place), {"prompt_token_ids": list(prompt)}, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                yield int(output.request_id), completions(policy, output)


def completions(policy: Policy, output: RequestOutput) -> tuple[Completion, ...]:
    """The samples of one request, token ids as the engine drew them."""
    stops = set(stop_ids(policy))
    done = []
    for sample in output.outputs:
        ids = tuple(sample.token_ids)
        logprobs = tuple(chosen[token].logprob for token, chosen in zip(ids, sample.logprobs or (), strict=True))
        done.append(Completion(ids, logprobs, policy.decode(ids), "stop" if ids[-1] in stops else "length"))
    return tuple(done)
