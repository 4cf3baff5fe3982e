"""In a program's sandbox: run it, alone or for a test to call."""

from __future__ import annotations

import atexit
import io
import os
import random
import sys
import threading
import types

from omnithink_pl.sandbox.inside.peer import Peer, PeerLost

CHANNEL = 3  # file descriptor, where a test calls the program
RECURSION = 20_000


def prepare(name: str) -> types.ModuleType:
    """The module that a program becomes."""
    sys.argv = ["program.py"]
    sys.setrecursionlimit(RECURSION)
    sys.set_int_max_str_digits(0)
    random.seed(0)  # forking has just seeded it anew
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def run_script(program: str) -> None:
    """Run a program as Python runs a file. Does not return."""
    module = prepare("__main__")
    try:
        exec(compile(program, "program.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        leave(exit_code(end), module)
    leave(0, module)


def serve_calls(program: str) -> None:
    """Import a program, tell a test its names, and answer the test's calls. Does not return.

    It is a module to be imported, so that its ``__main__`` block stays quiet.
    """
    module = prepare("solution")
    exec(compile(program, "program.py", "exec", dont_inherit=True), module.__dict__)
    peer = Peer(CHANNEL, module.__dict__)
    try:
        peer.send({"names": list(module.__dict__)})
        while "do" in (message := peer.receive()):
            peer.answer(message)
    except PeerLost:
        if peer.raised is not None:  # the last thing that the test saw of it
            sys.__excepthook__(type(peer.raised), peer.raised, peer.raised.__traceback__)
    os._exit(0)


def exit_code(end: SystemExit) -> int:
    """What Python makes of ``sys.exit(...)``: nothing is 0, a message is 1."""
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1


def leave(code: int, module: types.ModuleType) -> None:
    """End as Python does, but without tearing the interpreter down, which takes longer than the run."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and ends those of executors
    atexit._run_exitfuncs()
    for file in (*module.__dict__.values(), sys.stdout, sys.__stdout__, sys.stderr):
        if isinstance(file, io.IOBase) and not file.closed and file.writable():
            file.flush()
    os._exit(code)
