"""A server that speaks as much of the Hugging Face hub's protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

URL = "/{repo_id}/resolve/{revision}/{filename}"
COMMIT = "c0ffee" + "0" * 34


def card(**configs: Mapping[str, str]) -> str:
    """A data card: configuration -> split -> files."""
    entries = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': entries})}---\n# A data set\n"


class Hub(ThreadingHTTPServer):
    """Serves directories as data sets with one commit each, on the branch ``main``."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.commit = COMMIT
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[0] == "api"
        owner, name, verb, revision, *rest = (*parts[1 + api :], "", "", "", "")
        directory = self.server.repositories.get(f"{owner}/{name}")
        if directory is None:
            self.refuse("RepoNotFound")
        elif revision and revision not in ("main", self.server.commit):
            self.refuse("RevisionNotFound")
        elif api and verb == "tree":
            files = {file.relative_to(directory).as_posix(): file.read_bytes() for file in directory.rglob("*.*")}
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in sorted(files.items())
            ]
            self.reply(json.dumps(entries).encode())
        elif api:
            self.reply(json.dumps({"id": f"{owner}/{name}", "sha": self.server.commit, "siblings": []}).encode())
        else:
            self.reply((directory / "/".join(filter(None, rest))).read_bytes())

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def fake_hub(repositories: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, for as long as the block lasts; afterwards there is no network."""
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
    thread.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            here = f"http://127.0.0.1:{hub.server_port}"
            patch.setattr("huggingface_hub.constants.ENDPOINT", here)
            patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", here + URL)
            yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
