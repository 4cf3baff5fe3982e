"""Messages between processes: JSON objects in frames of four bytes of length, big-endian, then the JSON text."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

Message = dict[str, Any]
LENGTH = struct.Struct(">I")
MAX_BYTES = 1 << 26  # of one frame from or to a program
_MAX_FILES = 8  # in one message


def send(control: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Send a message with file descriptors attached."""
    data = json.dumps(message).encode()
    socket.send_fds(control, [LENGTH.pack(len(data))], list(files))
    control.sendall(data)


def receive(control: socket.socket) -> tuple[Message, list[int]]:
    """Return the next message and its file descriptors; raises ``EOFError`` if the other side has gone."""
    head, files, _, _ = socket.recv_fds(control, LENGTH.size, _MAX_FILES)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    return json.loads(exactly(size, control.recv)), files


def exactly(size: int, receive_bytes: Callable[[int], bytes]) -> bytes:
    """Return this many bytes, or raise ``EOFError``."""
    data = bytearray()
    while len(data) < size:
        if not (chunk := receive_bytes(min(size - len(data), 1 << 20))):
            raise EOFError
        data += chunk
    return bytes(data)
