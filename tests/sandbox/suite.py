"""Run every program in one tier, as whoever runs this, and print as JSON what did not end as wanted."""

from __future__ import annotations

import json
import os
import sys

from omnithink_pl.sandbox import HardenedSandbox
from tests.sandbox.programs import HONEST, HOSTILE, Case


def unwanted(sandbox: HardenedSandbox, cases: list[Case]) -> dict[str, str]:
    """Return what happened, by name, of programs that did not end as wanted."""
    verdicts = sandbox.run_all([(case.program, case.tests) for case in cases])
    sandbox.close()
    return {
        case.name: f"{verdict.outcome.value}: {verdict.stderr[-300:]}"
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict.outcome not in case.wanted
    }


def main(tier: str) -> None:
    """Print user, tier, and what did not end as wanted."""
    # More workers than processors: many hostile programs only wait for their time to pass.
    hurried = HardenedSandbox(workers=4, tier=tier, timeout=1.0, output_kb=512)  # type: ignore[arg-type]
    patient = HardenedSandbox(tier=tier)  # type: ignore[arg-type]
    found = {"uid": os.getuid(), "tier": hurried.tier.value}
    print(json.dumps(found | {"hostile": unwanted(hurried, HOSTILE), "honest": unwanted(patient, HONEST)}))


if __name__ == "__main__":
    main(sys.argv[1])
