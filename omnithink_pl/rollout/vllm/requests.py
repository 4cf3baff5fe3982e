"""Between our nouns and vLLM's: prompts and sampling out, completions back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omnithink_pl.rollout.decoding import stop_ids
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import Sampling


def request_seeds(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """A seed for each prompt that does not depend on the prompts beside it or on its place among them.

    So the completions of a prompt are the same whichever process draws them. A prompt that occurs again gets another
    seed.
    """
    seeds, met = [], Counter[tuple[int, ...]]()
    for prompt in map(tuple, prompts):
        seeds.append(derive_seed(seed, met[prompt], *prompt))
        met[prompt] += 1
    return seeds


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
        SamplingParams(**shared, seed=seed, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
        for seed in seeds
    ]


def completions(policy: Policy, output: RequestOutput) -> tuple[Completion, ...]:
    """The samples of one request, token ids as the engine drew them."""
    stops = set(stop_ids(policy))
    done = []
    for sample in output.outputs:
        ids = tuple(sample.token_ids)
        logprobs = tuple(chosen[token].logprob for token, chosen in zip(ids, sample.logprobs or (), strict=True))
        done.append(Completion(ids, logprobs, policy.decode(ids), "stop" if ids[-1] in stops else "length"))
    return tuple(done)
