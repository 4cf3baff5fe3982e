"""An OpenAI-compatible server in a process of its own, whose verdicts and faults are scripted.

A text is as good as the number after ``quality`` in it; without one, its hash decides. Faults depend on the text of the
request alone: the same request has the same faults in every run, and is answered after some attempts. ``PUT`` sets the
script, ``GET`` returns what happened since and, at ``/last``, the last request.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

# What a server may send with status 200 that is no reply; an {} stands for the key that it was sent.
BODIES = {
    "wrong shape": '{{"choices": []}}',
    "no choices": '{{"choices": null}}',
    "choices of text": '{{"choices": "[[A]]"}}',
    "no message": '{{"choices": [{{"message": null}}]}}',
    "null content": '{{"choices": [{{"message": {{"content": null}}, "finish_reason": "length"}}]}}',
    "content in parts": '{{"choices": [{{"message": {{"content": [{{"text": "[[A]]"}}]}}}}]}}',
    "null": "null",
    "list": '["{}"]',
    "number": "17",
    "long number": "1" * 5000,
    "text": '"{}"',
    "html": "<html><body>Sign in, {}</body></html>",
    "empty": "",
    "deep": "[" * 100_000,
    "deep object": '{{"a":' * 100_000,
}
FAULTS = ("429", "500", "slow", "half", "garbage", "reset", *BODIES)
FLOOD = 600 * 2**20  # bytes
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def texts(prompt: str) -> list[str]:
    """Request, answer A and answer B, as a reader who trusts the markers finds them."""
    fence = re.escape(prompt.split(" ", 1)[0])
    marker = rf"^{fence} (?:REQUESTS?|(?:ANSWER|CONVERSATION) [AB]|END)$"
    return [part.strip("\n") for part in re.split(marker, prompt, flags=re.MULTILINE)[1:4]]


def quality(text: str) -> int:
    found = re.search(r"quality (\d+)", text)
    return int(found[1]) if found else hashlib.sha256(text.encode()).digest()[0] % 4


def reply(prompt: str, biased: bool) -> str:
    question, a, b = texts(prompt)
    if "mumble" in question:
        return "I could not say which one I like more."
    tie = "A" if biased else "C"
    verdict = tie if quality(a) == quality(b) else "A" if quality(a) > quality(b) else "B"
    if "think aloud" in question:
        return f"[[A]] or [[B]]? A says:\n{a}\n[[{verdict}]]"
    return f"A reads well, B too.\n[[{verdict}]]"


class Script(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    settings: ClassVar[dict[str, Any]] = {}
    lock = threading.Lock()
    seen: ClassVar[Counter[str]] = Counter()
    log: ClassVar[Counter[str]] = Counter()
    sleeping: ClassVar[Counter[str]] = Counter()
    last: ClassVar[dict[str, Any]] = {}  # request, without its messages

    def do_GET(self) -> None:
        self.send(200, self.last if self.path.endswith("/last") else dict(self.log))

    def do_PUT(self) -> None:
        with self.lock:
            self.settings.update(self.body())
            self.log.clear()
            self.seen.clear()
        self.send(200, {})

    def do_POST(self) -> None:
        body = self.body()
        text = json.dumps(body)
        with self.lock:
            self.last.clear()
            self.last.update({name: value for name, value in body.items() if name != "messages"})
            self.log["requests"] += 1
            self.seen[text] += 1
            fault = self.fault(text, self.seen[text])
            self.log.update([fault] if fault else [])
        if fault == "slow":
            self.sleep()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "flood":
            self.flood()
        elif fault is not None and fault.isdigit():
            self.send(int(fault), {"error": {"message": f"scripted; your key is {self.headers['authorization']}"}})
        elif fault in BODIES:
            self.send_raw(200, BODIES[fault].format(self.headers["authorization"]).encode())
        else:
            self.send(200, self.answer(body), fault)

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def fault(self, text: str, attempt: int) -> str | None:
        if self.settings.get("always"):
            return str(self.settings["always"])
        digest = hashlib.sha256(f"{attempt}:{text}".encode()).digest()
        if attempt > 4 or digest[0] >= 256 * self.settings.get("share", 0.0):
            return None
        return FAULTS[digest[1] % len(FAULTS)]

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = next(message["content"] for message in body["messages"] if message["role"] == "user")
        reminded = len(body["messages"]) > 2
        said = "[[A]]" if reminded and "mumble once" in prompt else reply(prompt, self.settings.get("biased", False))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return head | {"choices": [choice], "usage": self.settings.get("usage", USAGE)}

    def sleep(self) -> None:
        with self.lock:
            self.sleeping["now"] += 1
            self.log["asleep at once"] = max(self.log["asleep at once"], self.sleeping["now"])
        time.sleep(self.settings.get("slow", 5.0))
        with self.lock:
            self.sleeping["now"] -= 1

    def flood(self) -> None:
        self.send_response(self.settings.get("status", 200))
        self.send_header("content-length", str(FLOOD))
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(FLOOD >> 20):
                self.wfile.write(b" " * 2**20)
                with self.lock:
                    self.log["MiB"] += 1
        except OSError:  # a client that reads no more
            pass

    def send(self, status: int, content: dict[str, Any], fault: str | None = None) -> None:
        self.send_raw(status, json.dumps(content).encode(), fault)

    def send_raw(self, status: int, raw: bytes, fault: str | None = None) -> None:
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", f"{self.settings['elsewhere']}?{self.headers['authorization']}")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.close_connection |= fault in ("half", "slow")
        self.end_headers()
        sent = {"half": raw[: len(raw) // 2], "garbage": (b"\xff{" * (len(raw) // 2)).ljust(len(raw))}
        try:
            self.wfile.write(sent.get(str(fault), raw))
        except OSError:  # a client that waited no longer
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A closed connection is part of the script."""


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Script) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
        server.serve_forever(poll_interval=0.05)
