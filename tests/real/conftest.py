"""A real model, made once for this checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.smollm2 import smollm2


@pytest.fixture(scope="session")
def model_directory(request: pytest.FixtureRequest) -> Path:
    return smollm2(request.config.cache.mkdir("smollm2"))
