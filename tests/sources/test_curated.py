"""Curated rows are made once, found again without the data, and made anew when anything they depend on changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sources import Curation, DecontaminationSet, OpenR1Math
from omnithink_pl.sources.curated import Pipeline
from tests.sources.copies import math_rows, write
from tests.sources.hub import fake_hub

ID = "open-r1/OpenR1-Math-220k"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that rows are curated."""
    done: list[str] = []
    run = Pipeline.run

    def counted(self: Pipeline) -> Any:
        done.append(self.report.version)
        return run(self)

    monkeypatch.setattr(Pipeline, "run", counted)
    return done


def test_anything_that_rows_depend_on_makes_them_anew_and_nothing_else(
    tmp_path: Path, curation: Curation, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "rows.jsonl", math_rows("train", 20))
    benchmark = write(tmp_path / "bench.jsonl", [{"problem": "Something else"}])
    curation = replace(curation, decontaminate=[DecontaminationSet(benchmark)])

    def curate(**changes: Any) -> int:
        source = OpenR1Math(file, curation=replace(curation, **changes))
        assert source.examples("m", "train") == source.examples("m", "train")
        return len(runs)

    assert curate() == 1
    assert curate(seed=1) == 2
    assert curate(rows=3) == 3
    write(Path(benchmark), [{"problem": "Something else again"}])
    assert curate() == 4
    write(Path(file), math_rows("train", 21))
    assert curate() == 5
    monkeypatch.setattr(OpenR1Math, "version", 99)
    assert curate() == 6
    assert curate() == 6


def test_a_kill_while_rows_are_curated_leaves_nothing_that_could_be_taken_for_them(
    tmp_path: Path, curation: Curation
) -> None:
    source = OpenR1Math(write(tmp_path / "rows.jsonl", math_rows("train", 20)), curation=curation)

    with patch("pathlib.Path.rename", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        source.prepare()
    assert source.report() is None
    assert len(source.examples("m", "train")) == 20


def test_training_asks_no_hub_and_prepare_sees_that_a_branch_moved(
    tmp_path: Path, curation: Curation, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "copy"
    write(directory / "data/train-00000-of-00001.parquet", math_rows("train", 20))
    branch, pinned = (OpenR1Math(ID, revision=name, curation=curation) for name in ("main", "c0ffee" + "0" * 34))
    with fake_hub({ID: directory}, monkeypatch) as hub:
        assert branch.prepare().version == pinned.prepare().version == hub.commit
        assert branch.prepare(refresh=True).version == hub.commit
        assert len(runs) == 2
        hub.requests.clear()
        assert len(branch.examples("m", "train")) == 20
        assert hub.requests == []
        hub.commit = "beef" * 10
        write(directory / "data/train-00000-of-00001.parquet", math_rows("train", 30))
        assert pinned.prepare(refresh=True).version != hub.commit
        assert branch.prepare().version != hub.commit  # training continues with what was prepared
        assert branch.prepare(refresh=True).version == hub.commit
    assert len(branch.examples("m", "train")) == 30
    assert branch.prepare(refresh=True).version == hub.commit  # without a network, the cache
    with pytest.raises(BadInput, match=r"OpenR1Math\(open-r1/.*cannot be reached.*run `python main\.py prepare`"):
        OpenR1Math(ID, revision="v2", curation=curation).examples("m", "train")


def test_held_out_rows_depend_on_the_seed_alone_and_stay_held_out(tmp_path: Path, curation: Curation) -> None:
    rows = math_rows("train", 100)
    files = write(tmp_path / "rows.jsonl", rows), write(tmp_path / "reversed.jsonl", rows[::-1])

    def sampled(file: str, split: Any, **changes: Any) -> set[str]:
        found = replace(curation, **({"held_out": 10, "rows": 40} | changes))
        return {example.uid for example in OpenR1Math(file, curation=found).examples("m", split)}

    train, test = sampled(files[0], "train"), sampled(files[0], "test")
    assert (len(train), len(test)) == (40, 10)
    assert not train & test
    assert sampled(files[1], "train") == train  # whatever the order of the rows
    assert sampled(files[0], "train", seed=1) != train
    everything = {"held_out": 256, "rows": None}  # of a single file at most a fifth is held out
    train, test = sampled(files[0], "train", **everything), sampled(files[0], "test", **everything)
    assert train | test == {row["uuid"] for row in rows}
    assert len(test) == 20


def test_embedded_rows_are_not_a_path(curation: Curation) -> None:
    with pytest.raises(BadInput, match=r"OpenR1Math\(embedded\).*set class_path to omnithink_pl\.embedded\.Embedded"):
        OpenR1Math("embedded", curation=curation)
