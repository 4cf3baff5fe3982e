"""Frames of JSON over a socket: four bytes of length, then the text; open files may travel along."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
_LENGTH = struct.Struct(">I")
_FILES = 8  # travelling with one message at most
LARGEST = 1 << 26  # bytes of one frame


def send(control: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Send a message, with file descriptors attached."""
    data = json.dumps(message).encode()
    socket.send_fds(control, [_LENGTH.pack(len(data))], list(files))
    control.sendall(data)


def receive(control: socket.socket) -> tuple[Message, list[int]]:
    """The next message, with the file descriptors that came along.

    Raises:
        EOFError: If the other side has gone.
    """
    head, files, _, _ = socket.recv_fds(control, _LENGTH.size, _FILES)
    if len(head) < _LENGTH.size:
        raise EOFError
    data = bytearray()
    size = _LENGTH.unpack(head)[0]
    while len(data) < size:
        chunk = control.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return json.loads(data), files


def put(channel: int, message: Message) -> None:
    """Write a message to a bare file descriptor.

    Raises:
        OSError: If the other side has gone.
        ValueError: If the message is too large.
    """
    data = json.dumps(message).encode()
    if len(data) > LARGEST:
        raise ValueError(f"a message of {len(data)} bytes is too large; at most {LARGEST}")
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def get(channel: int) -> Message:
    """Read a message from a bare file descriptor.

    Raises:
        EOFError: If the other side has gone.
        ValueError: If what comes is no message.
    """
    size = _LENGTH.unpack(_exactly(channel, _LENGTH.size))[0]
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes is too large; at most {LARGEST}")
    message = json.loads(_exactly(channel, size))
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def _exactly(channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(channel, min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
