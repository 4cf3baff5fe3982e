"""Curated rows and downloads go to a directory of the test's own."""

from __future__ import annotations

import pytest

from omnithink_pl.sources import Curation


@pytest.fixture(autouse=True)
def curation(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Curation:
    """Settings that hold nothing out, with a cache of the test's own."""
    directory = tmp_path_factory.mktemp("caches")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", directory / "arrow")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(directory / "hub"))
    return Curation(cache=str(directory / "curated"), held_out=0)
