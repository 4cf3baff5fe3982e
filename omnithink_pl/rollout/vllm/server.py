"""The client of a vLLM server on other GPUs or hosts, to which the trainer pushes its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import asdict
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import torch

from omnithink_pl.distributed.collectives import gather_rows, process_rank
from omnithink_pl.errors import BadInput, EngineFailure, OmniThinkError, RankFailure
from omnithink_pl.model.policy import Policy, named_weights
from omnithink_pl.model.sharding import sharded_modules
from omnithink_pl.rollout.base import (
    DecodingRequest,
    Finished,
    RequestBatch,
    Sampling,
    check_prompts,
    make_completion,
    stop_ids,
)
from omnithink_pl.rollout.vllm.engine import sampling_arguments
from omnithink_pl.rollout.vllm.weight_parts import weight_parts
from omnithink_pl.types import Completion

SERVE = "python -m omnithink_pl.rollout.vllm.serve"
T = TypeVar("T")


class VLLMServer:
    """Samples with a server that ``python -m omnithink_pl.rollout.vllm.serve`` has started.

    All processes of a run share the server: each asks for its own prompts, the first one pushes the weights while the
    others wait. Every push has a name of its own, which the server attaches to what it samples; completions of other
    weights (of a server that was restarted, or that another run uses) are refused.

    Weights go through vLLM's own weight-transfer API, in the requests. vLLM is needed only where the server runs.
    Requests are batched as they arrive, so that a run repeats up to rounding, not bit for bit.

    Args:
        url: Of the server.
        requests: Prompts, or partial completions, that each process sends at the same time.
        timeout: Seconds that the server has for an answer.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", requests: int = 64, timeout: float = 600.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"model.engine.init_args.url is {url!r}; it begins with http:// or https://")
        if requests < 1:
            raise BadInput(f"model.engine.init_args.requests is {requests}; it is at least 1")
        self.url = url.rstrip("/")
        self.requests = requests
        self.timeout = timeout
        self.low_precision = True  # the server does not say what it was started with
        self.shared = True  # by all processes
        self._policy: Policy | None = None
        self._run = ""  # distinguishes this run's weights from those of all others
        self._version: int | None = None  # of the policy's weights that the server holds
        self._begun: list[Future[Any]] = []  # the call that may still be sampling

    def attach(self, policy: Policy) -> None:
        """Push the first weights."""
        self._policy, self._version = policy, None
        self._run = gather_rows([uuid4().hex])[0]
        self.sync()

    def sync(self) -> None:
        """Push the policy's current weights, unless the server holds them, and drop its prefix cache.

        All processes call it, and leave it together.

        Raises:
            EngineFailure: In the first process, if the server does not take the weights.
            RankFailure: In the others, then; and if the processes hold different versions, or one is gone.
        """
        policy = self._attached()
        if self._version == policy.version:
            return
        wait(self._begun)
        self._version = None  # until every weight is loaded
        with _first_sends(policy.version), torch.no_grad():
            weights = named_weights(policy.model)
            if process_rank() == 0:
                self._push(weights, self._label(policy.version))
            elif sharded_modules(policy.model):
                for _ in weights:  # gathering takes all processes
                    pass
        self._version = policy.version

    def _push(self, weights: Iterator[tuple[str, torch.Tensor]], label: str) -> None:
        try:
            self._start_update(label)
            with ThreadPoolExecutor(1) as sender:  # a part is made while the server loads the one before
                loading: Future[object] | None = None
                for part in weight_parts(weights):
                    if loading is not None:
                        loading.result()
                    loading = sender.submit(self._post, "/update_weights", {"update_info": asdict(part)})
                assert loading is not None
                loading.result()
            self._post("/finish_weight_update")
            self._post("/reset_prefix_cache")
            self._post("/update_weight_version", {"new_version": label})
        finally:
            for _ in weights:  # after a failure, while others still gather
                pass

    def _start_update(self, label: str) -> None:
        try:
            self._post("/start_weight_update")
        except EngineFailure:  # a trainer that was killed in the middle of its push has left it open: end it
            self._post("/finish_weight_update")
            self._post("/start_weight_update")
        self._post("/update_weight_version", {"new_version": f"{label}, incomplete"})

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample completions; see ``RolloutEngine.generate``."""
        policy = self._attached()
        check_prompts(prompts, sampling, policy.context)
        batch = RequestBatch(policy, prompts, sampling, partial, finished)
        stops, label = stop_ids(policy), self._label(self._version)

        def ask(request: DecodingRequest) -> list[Completion]:
            arguments = sampling_arguments(policy, sampling, request, seeds[request.prompt]) | {"detokenize": False}
            body = {"token_ids": list(request.tokens), "sampling_params": arguments}
            completions = []
            for choice in self._post("/inference/v1/generate", body)["choices"]:
                self._check_weights(choice, label)
                logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
                completions.append(make_completion(policy, choice["token_ids"], logprobs, stops))
            return completions

        with ThreadPoolExecutor(self.requests) as pool:
            asked = {pool.submit(ask, request): request for request in batch.requests}
            try:
                for answer in as_completed(asked):
                    batch.add(asked[answer], answer.result())
            except EngineFailure:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return batch.groups()

    def begin(self, *request: Any) -> Future[list[tuple[Completion, ...]]]:
        """Start what ``generate`` does with the same arguments, beside the caller; the next push waits for its end."""
        future: Future[list[tuple[Completion, ...]]] = Future()

        def work() -> None:
            try:
                future.set_result(self.generate(*request))
            except BaseException as error:  # noqa: BLE001  (raised where the future is awaited)
                future.set_exception(error)

        self._begun = [future]
        Thread(target=work, name="sampling ahead", daemon=True).start()
        return future

    def _check_weights(self, choice: dict[str, Any], label: str) -> None:
        """Refuse a completion of which any token was sampled from other weights than those pushed last."""
        found = {span["version"] for span in choice["weight_versions"] or ()}
        if found != {label}:
            raise EngineFailure(
                f"the vLLM server at {self.url} samples from other weights (version {', '.join(sorted(found))!r}) than "
                f"this run has pushed ({label!r}): it was restarted, or another run uses it too. Give each run a "
                f"server of its own, and continue with --ckpt_path last"
            )

    def _label(self, version: int | None) -> str:
        return f"{self._run}-{version}"

    def _attached(self) -> Policy:
        if self._policy is None:
            raise RuntimeError("VLLMServer is used before attach; call attach(policy) once")
        return self._policy

    def _post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = Request(f"{self.url}{path}", json.dumps(body or {}).encode(), {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=self.timeout) as answer:
                text = answer.read()
        except HTTPError as error:
            raise EngineFailure(
                f"the vLLM server at {self.url} answered {error.code} to {path}: {error.read()[:500]!r}; was it "
                f"started with `{SERVE}`? Continue with --ckpt_path last"
            ) from error
        except OSError as error:
            raise EngineFailure(
                f"no answer from the vLLM server at {self.url} ({error}); start it with `{SERVE}`, or correct "
                f"model.engine.init_args.url; continue with --ckpt_path last"
            ) from error
        return dict(json.loads(text)) if text else {}


@contextmanager
def _first_sends(version: int) -> Iterator[None]:
    """Enter when all processes have ended sampling, and leave when all know whether the first one has succeeded."""
    versions = _exchange(version)
    if len(set(versions)) > 1:
        raise RankFailure(f"the processes' policies differ: updates counted by each are {versions}")
    problem: OmniThinkError | None = None
    try:
        yield
    except OmniThinkError as error:
        problem = error
    failed = any(_exchange(problem is not None))
    if problem is not None:
        raise problem
    if failed:
        raise RankFailure("process 0 could not push the weights to the vLLM server; see its message")


def _exchange(own: T) -> list[T]:
    """Return every process's value, by rank."""
    try:
        return gather_rows([own])
    except RuntimeError as error:
        raise RankFailure(f"another process of this run is gone; see its message ({error})") from error
