"""A server that speaks as much of the Hugging Face hub's protocol as an upload needs: its HTTP one, not Xet."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

TOKEN = "hf_" + "secret" * 6
COMMIT = "c0ffee" + "0" * 34
LARGE = (".safetensors",)


class UploadHub(ThreadingHTTPServer):
    """Keeps what is pushed to its one repository; ``refuse`` answers with an HTTP status instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.made: list[dict[str, object]] = []
        self.large: dict[str, bytes] = {}  # by hash
        self.files: dict[str, bytes] = {}
        self.refuse: dict[str, int] = {}  # status by a part of the path


class Handler(BaseHTTPRequestHandler):
    server: UploadHub

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        body, hub = self._body(), self.server
        status = next((status for part, status in hub.refuse.items() if part in self.path), 200)
        if status != 200 or self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._reply({"error": "no"}, status if status != 200 else 401)
        elif self.path == "/api/repos/create":
            hub.made.append(json.loads(body))
            self._reply({"url": f"{hub.url}/me/mine"})
        elif self.path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "lfs" if p.endswith(LARGE) else "regular"} for p in paths]
            self._reply({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        elif self.path.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = [{**o, "actions": {"upload": {"href": f"{hub.url}/lfs/{o['oid']}"}}} for o in objects]
            self._reply({"transfer": "basic", "objects": upload})
        elif self.path.endswith("/commit/main"):
            self._commit([json.loads(line) for line in body.splitlines()])
            self._reply({"success": True, "commitUrl": f"{hub.url}/me/mine/commit/{COMMIT}", "commitOid": COMMIT})
        else:  # /api/validate-yaml
            self._reply({"errors": [], "warnings": []})

    def _commit(self, lines: list[dict[str, object]]) -> None:
        hub = self.server
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.files[value["path"]] = hub.large[value["oid"]]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def upload_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """The hub, with a token of this machine, for as long as the block lasts."""
    hub = UploadHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
    thread.start()
    try:
        with monkeypatch.context() as patch:
            for name, value in {"HF_HUB_OFFLINE": False, "ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True}.items():
                patch.setattr(f"huggingface_hub.constants.{name}", value)
            patch.setenv("HF_TOKEN", TOKEN)
            yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
