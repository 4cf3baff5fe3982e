"""Measure what no CPU can tell: utilisation, kernels, memory, offload; with vLLM, its engine and a real fit too.

python -m benchmarks.gpu --minutes 30 --output gpu.jsonl       # on a GPU; torch and transformers suffice
python -m benchmarks.gpu --size mini --minutes 3               # anywhere, to see that it runs
python -m benchmarks.gpu --only layers attention/varlen        # a part: names begin so

Prints one JSON object a line, as soon as it is known: what a run that is cut off has found is not lost. The most
valuable measurements come first; what no time is left for is named. docs/gpu.md has the expected figures.

Each measurement is a process of its own, whose failure is a line with its error, and the next one goes on. Nowhere
else in this repository does work go on after an error; here a kernel that is missing, or that ends the process with the
whole CUDA context, says nothing about the other kernels, and the machine is there for half an hour only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.plan import ROOM, Measurement, plan

LEEWAY = 4.0  # a measurement may take so many times what is expected ...
START = 60.0  # ... and so many seconds more
ERROR = 2000  # characters of an error that are kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements for which there is time."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after this time")
    parser.add_argument("--size", choices=["7b", "mini"], default="7b", help="shapes: Qwen2.5-7B's, or tiny ones")
    parser.add_argument("--device", default="", help="cuda or cpu; cuda where there is a GPU")
    parser.add_argument("--policy", default="", help="sample from this directory, not from random weights of 0.5B")
    parser.add_argument("--only", nargs="+", default=[], help="run those whose names begin so")
    parser.add_argument("--output", type=Path, help="append the lines to this file too")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60.0 * options.minutes
    case = {"size": options.size, "device": options.device, "policy": options.policy}
    with open(options.output or "/dev/null", "a") as copy:  # noqa: PTH123  (a device)
        for measurement in plan(options.only):
            left = end - time.monotonic()
            if left < measurement.seconds:
                tell(copy, measurement.name, {"left_out": f"{left:.0f} s left, {measurement.seconds:.0f} expected"})
            else:
                measure(copy, measurement, case, min(left, LEEWAY * measurement.seconds + START))


def measure(copy: IO[str], measurement: Measurement, case: Mapping[str, str], limit: float) -> None:
    """Run one measurement in a process of its own, and pass on its rows as they come."""
    began = time.monotonic()
    task = json.dumps({"function": measurement.function, "case": case, "arguments": dict(measurement.arguments)})
    with tempfile.TemporaryFile("w+") as errors:
        command = ["timeout", "--kill-after=5", f"{limit:.1f}", sys.executable, "-m", f"{ROOM}.child", task]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for line in process.stdout or ():
                tell(copy, measurement.name, json.loads(line))
        code = process.returncode
        seconds = round(time.monotonic() - began, 1)
        if code == 0:
            tell(copy, measurement.name, {"took": seconds})
            return
        errors.seek(0)
        error = "it took too long" if code in (124, 137) else errors.read()[-ERROR:].strip()
        tell(copy, measurement.name, {"took": seconds, "exit_code": code, "error": error})


def tell(copy: IO[str], name: str, row: Mapping[str, Any]) -> None:
    """Print a row, and append it to the copy, at once."""
    line = json.dumps({"measurement": name, **row})
    print(line, flush=True)
    print(line, file=copy, flush=True)


if __name__ == "__main__":
    main()
