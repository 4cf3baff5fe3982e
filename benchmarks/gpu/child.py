"""The process of one measurement: writes its rows as lines of JSON, and nothing else, to standard output."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from benchmarks.gpu.case import Case
from benchmarks.gpu.plan import ROOM


def main(task: str) -> None:
    """Call the function that a task names, and write each row when it is known."""
    wanted = json.loads(task)
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no row
    module, _, function = wanted["function"].partition(":")
    for row in getattr(import_module(f"{ROOM}.{module}"), function)(Case.of(**wanted["case"]), **wanted["arguments"]):
        print(json.dumps(row), file=rows, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
