"""The client of a vLLM server on other GPUs or hosts, to which the trainer pushes its weights."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.model.policy import Policy, named_weights
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
from omnithink_pl.rollout.vllm.process import ProcessState, require_vllm
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm.distributed.utils import StatelessProcessGroup

SERVE = "python -m omnithink_pl.rollout.vllm.serve"
EXPIRATION_SECONDS = 300  # a tensor is kept for the server this long; by then it is loaded or the sync has failed


class VLLMServer:
    """Samples with a server that ``python -m omnithink_pl.rollout.vllm.serve`` has started.

    Weights go through vLLM's own weight-transfer API, over TCP, one tensor at a time. Requests are batched as they
    arrive, so that a run repeats up to rounding, not bit for bit. One training process only.

    Args:
        url: Of the server.
        host: Name or address of *this* machine as the server reaches it.
        workers: Processes of the server that hold weights: its tensor-parallel size.
        requests: Prompts, or partial completions, that are sent at the same time.
        timeout: Seconds that the server has for an answer.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        host: str = "127.0.0.1",
        workers: int = 1,
        requests: int = 64,
        timeout: float = 600.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"model.engine.init_args.url is {url!r}; it begins with http:// or https://")
        self.url = url.rstrip("/")
        self.host = host
        self.workers = workers
        self.requests = requests
        self.timeout = timeout
        self.low_precision = True  # the server does not say what it was started with
        self._policy: Policy | None = None
        self._group: StatelessProcessGroup | None = None
        self._model = ""  # the server's name for it, another one after each start
        self._version: int | None = None  # of the policy's weights that the server holds

    def check_installed(self) -> None:
        """Raise ``BadInput`` if vLLM is missing; a plan of the run (`budget`) does without."""
        require_vllm()

    def attach(self, policy: Policy) -> None:
        """Join the server's workers in a group and push the first weights."""
        require_vllm()
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise BadInput("VLLMServer works with one training process; use ColocatedVLLM with several")
        with ProcessState().preserved({}):  # importing vLLM edits the environment
            from vllm.distributed.utils import StatelessProcessGroup
        self._policy, self._version = policy, None
        self._model = str(self._call("GET", "/v1/models")["data"][0]["id"])
        port = free_port()
        init = {"host": self.host, "port": port, "workers": self.workers}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._call, "POST", "/init_weight_transfer_engine", {"init_info": init})
            self._group = StatelessProcessGroup.create(
                self.host, port, 0, 1 + self.workers, data_expiration_seconds=EXPIRATION_SECONDS
            )
            answer.result()
        self.sync()

    def sync(self) -> None:
        """Push the policy's current weights, unless the server holds them, and drop its prefix cache."""
        policy, group = self._attached()
        if self._version == policy.version:
            return
        self._version = None  # until every weight is loaded
        count = sum(1 for _ in named_weights(policy.model))
        self._call("POST", "/start_weight_update")
        with ThreadPoolExecutor(1) as pool, torch.no_grad():
            answer = pool.submit(self._call, "POST", "/update_weights", {"update_info": {"count": count}})
            for name, value in named_weights(policy.model):
                group.broadcast_obj((name, value.cpu().clone()), 0)
            answer.result()
        self._call("POST", "/finish_weight_update")
        self._call("POST", "/reset_prefix_cache")
        self._version = policy.version

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample completions; see ``RolloutEngine.generate``."""
        policy, _ = self._attached()
        check_prompts(prompts, sampling, policy.context)
        batch = RequestBatch(policy, prompts, sampling, partial, finished)
        stops = stop_ids(policy)

        def ask(request: DecodingRequest) -> list[Completion]:
            body = sampling_arguments(policy, sampling, request, seeds[request.prompt])
            body |= {"model": self._model, "return_token_ids": True, "prompt": list(request.tokens)}
            choices = self._call("POST", "/v1/completions", body)["choices"]
            return [
                make_completion(policy, choice["token_ids"], choice["logprobs"]["token_logprobs"], stops)
                for choice in choices
            ]

        with ThreadPoolExecutor(self.requests) as pool:
            asked = {pool.submit(ask, request): request for request in batch.requests}
            for answer in as_completed(asked):
                batch.add(asked[answer], answer.result())
        return batch.groups()

    def _attached(self) -> tuple[Policy, StatelessProcessGroup]:
        if self._policy is None or self._group is None:
            raise RuntimeError("VLLMServer is used before attach; call attach(policy) once")
        return self._policy, self._group

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urlopen(request, timeout=self.timeout) as answer:
                text = answer.read()
        except HTTPError as error:
            raise EngineFailure(
                f"the vLLM server at {self.url} answered {error.code} to {path}: {error.read()[:500]!r}; was it "
                f"started with `{SERVE}`, and not restarted since? Continue with --ckpt_path last"
            ) from error
        except OSError as error:
            raise EngineFailure(
                f"no answer from the vLLM server at {self.url} ({error}); start it with `{SERVE}`, or correct "
                f"model.engine.init_args.url; continue with --ckpt_path last"
            ) from error
        return dict(json.loads(text)) if text else {}


def free_port() -> int:
    """Return a TCP port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
