"""``python -m tests.faults --seeds 30``: disturb as many runs; ``--seed 7`` repeats one."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"})


def main() -> int:
    """Run the suite; return the number of failures."""
    from tests.faults.suite import Suite

    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=30, help="disturbances, by the seeds from 0")
    parser.add_argument("--seed", type=int, action="append", help="this seed only; may be repeated")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="omnithink-faults-"))
    began = time.monotonic()
    suite = Suite(directory)
    print(f"undisturbed: {time.monotonic() - began:.0f} s, {suite.counts}", flush=True)
    seeds = given.seed or range(given.seeds)
    failed = 0
    for seed in seeds:
        began = time.monotonic()
        try:
            said = suite.disturb(seed)
        except AssertionError as error:
            failed += 1
            said = f"FAILED {error}"
        print(f"{said} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(seeds)} seeds, {failed} failed; logs in {directory}")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
