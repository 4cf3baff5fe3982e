"""Sandboxes that several files share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.sandbox import HardenedSandbox


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[HardenedSandbox]:
    sandbox = HardenedSandbox(workers=1, tier=request.param)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """What the sandbox's tests need, where every user may read it; pytest's own folders are closed to others."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        for package in ("omnithink_pl", "tests"):
            shutil.copytree(root / package / "sandbox", folder / package / "sandbox", ignore=ignored)
            shutil.copy(root / package / "__init__.py", folder / package)
        for file in ("errors.py", "types.py"):
            shutil.copy(root / "omnithink_pl" / file, folder / "omnithink_pl")
        for path in [*folder.rglob("*"), folder]:
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        yield folder
