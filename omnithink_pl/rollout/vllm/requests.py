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
    from omnithink_pl.rollout.stems import Stem


def request_seed(seed: int, stem: Stem) -> int:
    """For a request: vLLM gives its samples the seeds s, s + 1, ..., and those of neighbouring seeds must not meet.

    Noise starts anew with each request, so a completion that goes on gets a seed of its place and length.
    """
    return derive_seed("request", seed, *((stem.first, stem.drawn) if stem.drawn else ()))


def sampling_settings(policy: Policy, sampling: Sampling, stem: Stem) -> dict[str, Any]:
    """Arguments of vLLM's ``SamplingParams`` for a stem, but its seed."""
    return {
        "n": stem.copies,
        "temperature": sampling.temperature,
        "top_p": 1.0 if sampling.temperature == 0.0 else sampling.top_p,
        "max_tokens": stem.room,
        "stop_token_ids": stop_ids(policy),
        "logprobs": 0,  # of the sampled token only
    }


def stem_requests(
    policy: Policy, stems: Sequence[Stem], sampling: Sampling, seeds: Sequence[int]
) -> Iterator[tuple[Sequence[int], SamplingParams]]:
    """One request a stem: its samples share the stem's computation where vLLM's prefix cache allows.

    Args:
        policy: Ends completions.
        stems: What is continued.
        sampling: How.
        seeds: Of the prompts.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    for stem in stems:
        seed, kind = request_seed(seeds[stem.place], stem), RequestOutputKind.FINAL_ONLY
        settings = sampling_settings(policy, sampling, stem)
        yield stem.tokens, SamplingParams(**settings, seed=seed, detokenize=False, output_kind=kind)


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
