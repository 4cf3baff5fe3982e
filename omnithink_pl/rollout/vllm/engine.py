"""A vLLM engine that lives inside the training process and shares its device."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.rollout.base import Finished, Sampling, check_prompts
from omnithink_pl.rollout.decoding import Harvest, stop_ids
from omnithink_pl.rollout.vllm.loading import EngineGroup, build, isolated, load_vllm
from omnithink_pl.rollout.vllm.weights import named_weights
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.decoding import Stem


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


log = logging.getLogger(__name__)

PROBE = [5, 7, 11, 13]  # any tokens that every vocabulary has
# Waking copies bytes back, so only kernels that are not deterministic may move a log-probability.
TOLERANCE = 1e-2


class Sleep:
    """Level-1 sleep: weights to host memory, the key-value cache thrown away.

    Level 2, which throws the weights away too, has corrupted weights in several versions of vLLM and is not offered.
    After waking, the log-probabilities of a fixed prompt must be those from before. On a CPU all of this does nothing
    and says so once. On GPUs it is untested.

    Args:
        wanted: Sleep at all.
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._asleep = False
        self._said = False
        self._before: list[float] = []

    def sleep(self, llm: LLM) -> None:
        """Release the memory, if wanted and possible."""
        if not self.wanted:
            return
        if not torch.cuda.is_available():
            self._say("model.engine.init_args.sleep does nothing on a CPU: there is no GPU memory to release")
            return
        self._before = probe(llm)
        full = used_gib()
        llm.sleep(level=1)
        self._asleep = True
        self._say(f"vLLM sleeps between rollouts: {full:.1f} GiB of GPU memory in use before, {used_gib():.1f} during")

    def wake(self, llm: LLM) -> None:
        """Take the memory back.

        Raises:
            RuntimeError: If the engine has not come back as it was.
        """
        if not self._asleep:
            return
        asleep = used_gib()
        llm.wake_up()
        llm.reset_prefix_cache()
        self._asleep = False
        log.debug("vLLM awake: %.1f GiB of GPU memory in use during its sleep, %.1f after", asleep, used_gib())
        check_probe(self._before, probe(llm))

    def _say(self, message: str) -> None:
        if not self._said:
            log.info(message)
            self._said = True


def probe(llm: LLM) -> list[float]:
    """Log-probabilities of a fixed prompt's tokens under the engine's present weights."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    (output,) = llm.generate([{"prompt_token_ids": PROBE}], params, use_tqdm=False)
    rows = (output.prompt_logprobs or [])[1:]  # the first token is given
    return [row[token].logprob for token, row in zip(PROBE[1:], rows, strict=True) if row is not None]


def check_probe(before: list[float], after: list[float]) -> None:
    """Compare two probes.

    Raises:
        RuntimeError: If they differ.
    """
    moved = [abs(a - b) for a, b in zip(before, after, strict=True)]
    wrong = [difference for difference in moved if not difference <= TOLERANCE]  # also what is not a number
    if wrong:
        raise RuntimeError(
            f"after waking, its log-probabilities differ by {wrong[0]:.3g} nats from those before its sleep; set "
            f"model.engine.init_args.sleep=false"
        )


def used_gib() -> float:
    """GPU memory in use by all processes, GiB."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30


Request = TypeVar("Request", bound=Hashable)


@final
class Team:
    """A tensor-parallel group, as vLLM's external launcher has it: consecutive ranks, each with an engine object.

    The engines compute every layer together, so they must be called at the same time with the same requests in the same
    order; nothing tells them of each other's. A rank's own prompts are therefore gathered from all of the team, and
    each takes its share of the completions back.

    Args:
        size: Ranks of a team; 1 where each rank has an engine of its own.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._group: dist.ProcessGroup | None = None

    def form(self) -> None:
        """Make the groups. All ranks call it, once the process group is there.

        Raises:
            BadInput: If the ranks cannot be divided into teams.
        """
        if self.size == 1:
            return
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        if ranks % self.size:
            raise BadInput(
                f"model.engine.init_args.tensor_parallel_size is {self.size}, and {ranks} processes train; take a "
                f"divisor of trainer.devices x trainer.num_nodes"
            )
        for first in range(0, ranks, self.size):
            # Of the CPU: prompts and seeds are Python objects.
            group = dist.new_group(list(range(first, first + self.size)), backend="gloo")
            if first <= dist.get_rank() < first + self.size:
                self._group = group

    def gather(self, requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
        """The requests of the whole team, each distinct one once, in an order that all of it agree on.

        Args:
            requests: This rank's; may be none, but every rank of the team must call.

        Returns:
            All requests, and where among them each of this rank's is.
        """
        parts = [list(requests)] * self.size
        if self.size > 1:
            dist.all_gather_object(parts, list(requests), group=self._group)
        place = {request: i for i, request in enumerate(dict.fromkeys(one for part in parts for one in part))}
        return list(place), [place[request] for request in requests]


# Read whenever vLLM is called; set for the while of a call only.
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's core in this process: weights are handed over, not sent
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # what goes wrong is raised; besides, vLLM prints its whole state
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # training keeps its cores
    "VLLM_NO_USAGE_STATS": "1",
    "TQDM_DISABLE": "1",
}


class ColocatedVLLM:
    """Samples with vLLM 0.32 in this process, from weights taken over before each batch of rollouts.

    The engine is built in ``attach``, which therefore comes after the process group; each rank has its own. It
    lives as long as the process. Random state, threads, environment and process group stay as they were. What is drawn
    for a prompt depends on the weights, the prompt and the seed, but for rounding not on the prompts beside it.

    Args:
        dtype: Of the engine's weights and cache. ``float32`` agrees with a float32 trainer to 1e-4, ``bfloat16`` is
            faster on GPUs and differs by a few 1e-2 nats: keep ``model.rollouts.correction`` on.
        max_rows: Completions that are decoded at the same time.
        max_context: Longest prompt with its completion, in tokens; the policy's own context if not given.
        kv_cache_gib: Memory of the key-value cache. If not given, on a GPU what ``gpu_memory_utilization`` leaves.
        gpu_memory_utilization: Share of the GPU's memory for engine weights and cache together; the trainer has
            the rest. Not read on a CPU.
        tensor_parallel_size: Consecutive ranks that share one engine, each with a part of its weights, for a policy
            that one GPU does not hold; a divisor of the number of processes. Above 1 it is untested.
        cuda_graphs: Record CUDA graphs at start-up: slower to start, faster to decode. Not read on a CPU.
        sleep: Release the engine's GPU memory between rollouts. On a CPU there is nothing to release.
    """

    def __init__(
        self,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        max_rows: int = 256,
        max_context: int | None = None,
        kv_cache_gib: float | None = None,
        gpu_memory_utilization: float = 0.3,
        tensor_parallel_size: int = 1,
        cuda_graphs: bool = False,
        sleep: bool = True,
    ) -> None:
        for key, value in (("max_rows", max_rows), ("tensor_parallel_size", tensor_parallel_size)):
            if value < 1:
                raise BadInput(f"model.engine.init_args.{key} is {value}; it is at least 1")
        if not 0 < gpu_memory_utilization < 1:
            raise BadInput(
                f"model.engine.init_args.gpu_memory_utilization is {gpu_memory_utilization}; it lies between 0 and 1"
            )
        load_vllm()
        self.dtype = dtype
        self.max_rows = max_rows
        self.max_context = max_context
        self.kv_cache_gib = kv_cache_gib
        self.gpu_memory_utilization = gpu_memory_utilization
        self.tensor_parallel_size = tensor_parallel_size
        self.cuda_graphs = cuda_graphs
        self.sleep = sleep
        self._group = EngineGroup()
        self._team = Team(tensor_parallel_size)
        self._sleep = Sleep(wanted=sleep)
        self.context = 0
        self._policy: Policy | None = None
        self._llm: LLM | None = None

    def attach(self, policy: Policy) -> None:
        """Build the engine in the shape of a policy and take over its weights.

        Raises:
            BadInput: If the processes cannot be divided into groups of ``tensor_parallel_size``.
            EngineFailure: If it cannot start, for instance for lack of memory.
        """
        self._policy, self.context = policy, self.max_context or policy.context
        self._team.form()
        with self._calling("start"):
            self._llm = build(policy, self, self.context)
        # Its destructor would end the process group that training uses, so it lives until the process ends.
        atexit.register(id, self._llm)
        self.sync()

    def sync(self) -> None:
        """Take over the policy's present weights, and forget what was computed with the ones before.

        Raises:
            EngineFailure: If some weight of the engine did not get a value.
        """
        policy, llm = self._attached()
        with self._calling("take over the weights"), torch.no_grad():
            self._sleep.wake(llm)
            llm.apply_model(lambda model: load_every_weight(model, named_weights(policy.model)))
            # Without it the engine goes on from keys and values of the old weights, and is wrong without a sign.
            llm.reset_prefix_cache()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        begun: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Draw ``sampling.group_size`` completions for each prompt, as ``RolloutEngine.generate`` has it.

        Raises:
            RuntimeError: Before ``attach``.
            ValueError: If a prompt is empty or leaves no room for ``max_tokens`` in the context.
            EngineFailure: If the engine dies.
        """
        policy, llm = self._attached()
        own = zip(map(tuple, prompts), seeds, map(tuple, begun or [()] * len(prompts)), strict=True)
        asked, mine = self._team.gather(list(own))
        check_prompts([prompt for prompt, _, _ in asked], sampling, self.context)
        if not asked:
            return []
        rows = {place: [row for row, own in enumerate(mine) if own == place] for place in set(mine)}

        def hand_over(place: int, completions: tuple[Completion, ...]) -> None:
            if finished is not None:
                for row in rows.get(place, ()):
                    finished(row, completions)

        all_prompts, all_seeds, all_begun = zip(*asked, strict=True)
        harvest = Harvest(policy, all_prompts, sampling, all_begun, hand_over)
        with self._calling("generate"):
            self._sleep.wake(llm)
            requests = stem_requests(policy, harvest.stems, sampling, all_seeds)
            for place, completions in finished_requests(llm, policy, requests):
                harvest.put(harvest.stems[place], completions)
            self._sleep.sleep(llm)
        groups = harvest.groups()
        return [groups[place] for place in mine]

    def _attached(self) -> tuple[Policy, LLM]:
        if self._policy is None or self._llm is None:
            raise RuntimeError("ColocatedVLLM is used before attach; call attach(policy) once")
        return self._policy, self._llm

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        """One call of vLLM's: nothing around it changes, and its errors say which setting to look at."""
        # vLLM compiles small functions on first use, which on a CPU takes longer than a short run.
        stance = "default" if self.cuda_graphs else "force_eager"
        try:
            with isolated(self._group, VARIABLES), torch.compiler.set_stance(stance):
                yield
        except torch.OutOfMemoryError as error:
            raise EngineFailure(
                f"vLLM could not {doing}: out of GPU memory. Lower model.engine.init_args.gpu_memory_utilization or "
                f"max_rows, or model.memory.micro_batch_tokens; continue with --ckpt_path last. ({error})"
            ) from error
        except (RuntimeError, ValueError, OSError, AssertionError) as error:
            raise EngineFailure(f"vLLM could not {doing}: {advice(str(error))} ({error})") from error


def load_every_weight(model: torch.nn.Module, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
    """Load weights into vLLM's model, and make sure that none keeps its old value.

    Raises:
        RuntimeError: Names the weights that were left out.
    """
    loaded = model.load_weights(weights)  # type: ignore[operator]
    left_out = sorted(dict(model.named_parameters()).keys() - loaded)
    if left_out:
        raise RuntimeError(f"the policy has no value for the engine's {', '.join(left_out[:5])}")


def advice(message: str) -> str:
    """Which setting is behind one of vLLM's errors, as far as its text tells."""
    text = message.lower()
    if "kv cache" in text or "cache blocks" in text:
        return "its key-value cache is too small; raise model.engine.init_args.kv_cache_gib or lower max_context"
    if "free memory" in text or "out of memory" in text:
        return (
            "too little memory; lower model.engine.init_args.gpu_memory_utilization or model.memory.micro_batch_tokens"
        )
    if "max_model_len" in text:
        return "its context exceeds the policy's; lower model.engine.init_args.max_context"
    return "continue with --ckpt_path last, or use configs/base.yaml's engine."
