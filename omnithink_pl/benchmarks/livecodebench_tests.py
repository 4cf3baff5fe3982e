"""The tests of a LiveCodeBench row: JSON, or JSON in a pickle in zlib in base64."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from typing import Any

from omnithink_pl.errors import BadInput
from omnithink_pl.types import UnitTests

_MOST = 256 << 20  # bytes; the largest row has a tenth of it
# The program's function against JSON values. As in the official harness a tuple counts as a list.
_FUNCTIONAL = """
import json

def plain(value):
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

def check(candidate):
    for given, expected in json.loads({cases!r}):
        got = plain(candidate(*given))
        assert got == expected, f"{{got!r}} is not {{expected!r}}"

check({entry_point})
"""


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of text and numbers; whatever would import or call anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_tests(row: Mapping[str, Any], where: str) -> UnitTests:
    """Public and private tests of a row.

    Args:
        row: With ``public_test_cases``, ``private_test_cases`` and ``metadata``.
        where: Source and row, for messages.

    Raises:
        BadInput: If they cannot be decoded, are of both kinds, or there are none.
    """
    cases = [*_cases(row, "public_test_cases", where), *_cases(row, "private_test_cases", where)]
    kinds = {case.get("testtype") for case in cases}
    if len(kinds) != 1 or not kinds <= {"stdin", "functional"}:
        raise BadInput(
            f"{where}: its tests are of the kinds {sorted(map(str, kinds))}; they are all stdin or functional"
        )
    if kinds == {"stdin"}:
        return UnitTests(tuple(case["input"] for case in cases), tuple(case["output"] for case in cases))
    name = (json.loads(row["metadata"] or "{}")).get("func_name")
    if not name:
        raise BadInput(f"{where}: 'metadata' has no func_name; take another revision")
    entry_point = f"Solution().{name}" if "class Solution" in (row["starter_code"] or "") else name
    try:
        values = [(_arguments(case["input"]), json.loads(case["output"])) for case in cases]
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: a functional test is not JSON ({error}); take another revision") from error
    return UnitTests(
        functional=_FUNCTIONAL.format(cases=json.dumps(values), entry_point=entry_point), entry_point=entry_point
    )


def _arguments(text: str) -> list[Any]:
    """One JSON value a line."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _cases(row: Mapping[str, Any], column: str, where: str) -> list[dict[str, Any]]:
    text = row[column] or "[]"
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass  # packed, as private tests usually are
    try:
        return json.loads(_unpacked(text))
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise BadInput(f"{where}: {column!r} cannot be decoded ({error}); take another revision") from error


def _unpacked(text: str) -> str:
    inflate = zlib.decompressobj()
    data = inflate.decompress(base64.b64decode(text, validate=True), _MOST)
    if inflate.unconsumed_tail:
        raise ValueError(f"more than {_MOST >> 20} MiB")
    return str(PlainUnpickler(io.BytesIO(data)).load())
