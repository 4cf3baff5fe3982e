"""Secrets kept out of what a run prints and stores, whoever put them there: a library's error, a server's reply, a bug.

A secret is what an environment variable holds whose name says so (``OPENAI_API_KEY``, ``HF_TOKEN``), a text that looks
like a well-known service's key, and the password in an address (``postgresql://user:password@host/db``).

Not covered: other encodings than those of URLs, JSON and Python, a key that a table breaks over two lines, files that a
program of the user's writes, and what other programs print, such as a server of vLLM's.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import quote

HIDDEN = "***"
_NAMES = {"KEY", "KEYS", "APIKEY", "TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASS", "CREDENTIALS"}
_SHORTEST = 8  # characters: a shorter value would hide words
_WELL_KNOWN = (  # as the services document them
    r"\bsk-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bgh[opsu]_[A-Za-z0-9]{16,}",
    r"\b(?:gsk|xai|r8|nvapi|pplx)[-_][A-Za-z0-9_-]{16,}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bAKIA[A-Z0-9]{16}\b",
)
_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"']*):[^\s/@\"']+@")


def redact(text: str) -> str:
    """Return a text with every secret replaced by ``***``."""
    hidden = _pattern(_secrets(os.environ)).sub(HIDDEN, text)
    return _PASSWORD.sub(rf"\1:{HIDDEN}@", hidden)


def guard_console() -> None:
    """Redact all that this process writes to its standard output and error: messages, logs, warnings, tracebacks."""
    for stream in (sys.stdout, sys.stderr):
        # On the stream itself: loggers of libraries that were imported before hold it already.
        stream.write = _redacting(stream.write)  # type: ignore[method-assign]


def _redacting(write: Callable[[str], int]) -> Callable[[str], int]:
    def redacted(text: str) -> int:
        write(redact(text))
        return len(text)

    return redacted


def _secrets(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the secrets of an environment; a value of several lines is several, and a path is none."""
    found = set()
    for name, value in environment.items():
        if _NAMES & set(name.upper().split("_")):
            found |= {part for part in value.split() if len(part) >= _SHORTEST and not part.startswith("/")}
    return frozenset(found)


@lru_cache(maxsize=4)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return what matches the secrets as they are, in a URL, in JSON and in Python, the longest first."""
    forms = {form for one in secrets for form in (one, quote(one, safe=""), json.dumps(one)[1:-1], repr(one)[1:-1])}
    return re.compile("|".join([*map(re.escape, sorted(forms, key=len, reverse=True)), *_WELL_KNOWN]))
