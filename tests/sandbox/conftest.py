"""Sandboxes that several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnithink_pl.sandbox import HardenedSandbox


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[HardenedSandbox]:
    sandbox = HardenedSandbox(workers=1, tier=request.param)
    yield sandbox
    sandbox.close()
