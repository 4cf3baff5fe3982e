"""An engine that several suites share."""

from __future__ import annotations

import pytest

from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached


@pytest.fixture(scope="session")
def qwen_engine() -> ColocatedVLLM:
    """An engine in the shape of ``tiny_qwen``; a test hands it a policy by ``follow``."""
    return attached(tiny_qwen())[0]
