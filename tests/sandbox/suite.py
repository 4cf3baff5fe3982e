"""Run every program in one tier, as whoever runs this, and print as JSON what did not end as wanted."""

from __future__ import annotations

import json
import sys
from typing import Any

from omnithink_pl.sandbox import HardenedSandbox
from tests.sandbox.programs import HONEST, HOSTILE
from tests.sandbox.programs.case import Case


def unwanted(sandbox: HardenedSandbox, cases: list[Case]) -> dict[str, str]:
    """Return what happened, by name, of programs that did not end as wanted."""
    verdicts = sandbox.run_all([(case.program, case.tests) for case in cases])
    sandbox.close()
    return {
        case.name: f"{verdict.outcome.value}: {verdict.stderr[-300:]}"
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict.outcome not in case.wanted
    }


if __name__ == "__main__":
    tier: Any = sys.argv[1]
    # More workers than processors: many hostile programs only wait for their time to pass.
    hurried, patient = HardenedSandbox(4, tier=tier, timeout=1.0, output_kb=512), HardenedSandbox(tier=tier)
    found = {"tier": hurried.tier.value}
    print(json.dumps(found | {"hostile": unwanted(hurried, HOSTILE), "honest": unwanted(patient, HONEST)}))
