"""A server that answers as ours does, in a process without vLLM: it samples with transformers from what was pushed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.rollout.vllm.weight_parts import WeightAssembler, WeightPart

UNSET = "default"  # vLLM's version of weights that nobody has named


class Loopback(ThreadingHTTPServer):
    """Holds a policy; its routes are vLLM's. Every push that was finished is a line in a file."""

    request_queue_size = 256

    def __init__(self, policy: Policy, log: Path, fail_at: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.policy = policy
        self.log = log
        self.fail_at = fail_at  # the request to sample, from 0, from which on the server answers nothing but errors
        self.sampled = 0
        self.lock = Lock()
        self.engine = TransformersEngine()
        self.engine.attach(policy)
        self.version = UNSET
        self.parts: WeightAssembler | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self, body: dict[str, Any]) -> None:
        if self.parts is not None:
            raise RuntimeError("start_weight_update called while a weight update is already active")
        self.parts = WeightAssembler()

    def update(self, body: dict[str, Any]) -> None:
        assert self.parts is not None
        own = self.policy.model.state_dict()
        for name, value in self.parts.add(WeightPart(**body["update_info"])).items():
            own[name].copy_(value)

    def finish(self, body: dict[str, Any]) -> None:
        self.parts = None

    def reset_cache(self, body: dict[str, Any]) -> None:
        assert "incomplete" in self.version, "a version is named only when nothing of the old weights is left"

    def name_version(self, body: dict[str, Any]) -> None:
        self.version = body["new_version"]
        with self.log.open("a") as log:
            print(self.version, file=log)

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        self.sampled += 1
        if self.fail_at is not None and self.sampled > self.fail_at:
            raise RuntimeError("the engine has died")
        asked = body["sampling_params"]
        sampling = Sampling(asked["n"], asked["temperature"], asked["top_p"], asked["max_tokens"])
        (group,) = self.engine.generate([body["token_ids"]], sampling, [asked["seed"] % 2**63])
        choices = [
            {
                "token_ids": list(one.token_ids),
                "logprobs": {"content": [{"logprob": value} for value in one.logprobs]},
                "weight_versions": [{"version": self.version, "start": 0, "end": len(one.token_ids)}],
            }
            for one in group
        ]
        return {"choices": choices}


ROUTES: dict[str, Callable[[Loopback, dict[str, Any]], dict[str, Any] | None]] = {
    "/start_weight_update": Loopback.start,
    "/update_weights": Loopback.update,
    "/finish_weight_update": Loopback.finish,
    "/reset_prefix_cache": Loopback.reset_cache,
    "/update_weight_version": Loopback.name_version,
    "/inference/v1/generate": Loopback.generate,
}


class Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            with self.server.lock, torch.no_grad():
                status, answer = 200, json.dumps(ROUTES[self.path](self.server, body) or {}).encode()
        except (RuntimeError, ValueError, AssertionError) as error:
            status, answer = 500, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""


@contextmanager
def loopback(policy: Policy, log: Path, fail_at: int | None = None) -> Iterator[str]:
    """The address of such a server in a process of its own."""
    with Loopback(policy, log, fail_at) as server:

        def serve() -> None:
            torch.set_num_threads(1)
            server.serve_forever()

        process = multiprocessing.get_context("fork").Process(target=serve)
        process.start()
        try:
            yield server.url
        finally:
            process.terminate()
            process.join()
