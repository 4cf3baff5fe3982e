"""Curated rows are made once, found again without the data, and made anew when anything they depend on changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.embedded import math
from omnithink_pl.errors import BadInput
from omnithink_pl.sources import Benchmark, Curation, OpenR1Math
from omnithink_pl.sources.curated import Pipeline
from tests.sources.copies import write
from tests.sources.hub import fake_hub

ID = "open-r1/OpenR1-Math-220k"


@pytest.fixture
def curation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curation:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return Curation(cache=str(tmp_path / "curated"))


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


def test_rows_are_curated_once_and_equal_when_read_again(tmp_path: Path, curation: Curation, runs: list[str]) -> None:
    write(tmp_path / "rows.jsonl", math.rows("train", 0, 20))
    examples = [OpenR1Math(str(tmp_path / "rows.jsonl"), curation=curation).examples("m", "train") for _ in range(2)]
    assert examples[0] == examples[1]
    assert len(runs) == 1


def test_anything_that_rows_depend_on_makes_them_anew(
    tmp_path: Path, curation: Curation, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, benchmark = tmp_path / "rows.jsonl", tmp_path / "bench.jsonl"
    write(file, math.rows("train", 0, 20))
    write(benchmark, [{"problem": "Something else"}])
    curation = replace(curation, decontaminate=[Benchmark(str(benchmark))])

    def curate(**changes: Any) -> int:
        OpenR1Math(str(file), curation=replace(curation, **changes)).prepare()
        return len(runs)

    assert curate() == 1
    assert curate(seed=1) == 2
    assert curate(rows=3) == 3
    write(benchmark, [{"problem": "Something else again"}])
    assert curate() == 4
    write(file, math.rows("train", 0, 21))
    assert curate() == 5
    monkeypatch.setattr(OpenR1Math, "version", 99)
    assert curate() == 6
    assert curate() == 6


def test_a_kill_while_rows_are_curated_leaves_nothing_that_could_be_taken_for_them(
    tmp_path: Path, curation: Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    write(file, math.rows("train", 0, 20))
    source = OpenR1Math(str(file), curation=curation)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            source.prepare()
    assert source.report() is None
    assert len(source.examples("m", "train")) == 16


def test_training_asks_no_hub_and_prepare_sees_that_a_branch_moved(
    tmp_path: Path, curation: Curation, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "copy"
    write(directory / "data/train-00000-of-00001.parquet", math.rows("train", 0, 20))
    branch, pinned = (OpenR1Math(ID, revision=name, curation=curation) for name in ("main", "c0ffee" + "0" * 34))
    with fake_hub({ID: directory}, monkeypatch) as hub:
        assert branch.prepare().version == pinned.prepare().version == hub.commit
        assert branch.prepare(refresh=True).version == hub.commit
        assert len(runs) == 2
        hub.requests.clear()
        assert len(branch.examples("m", "train")) == 16
        assert hub.requests == []
        hub.commit = "beef" * 10
        write(directory / "data/train-00000-of-00001.parquet", math.rows("train", 0, 30))
        assert pinned.prepare(refresh=True).version != hub.commit
        assert branch.prepare().version != hub.commit  # training goes on with what was prepared
        assert branch.prepare(refresh=True).version == hub.commit
    assert len(branch.examples("m", "train")) == 24
    assert branch.prepare(refresh=True).version == hub.commit  # without a network, what is here
    with pytest.raises(BadInput, match=r"OpenR1Math\(open-r1/.*cannot be reached.*run `python main\.py prepare`"):
        OpenR1Math(ID, revision="v2", curation=curation).examples("m", "train")


def test_the_draw_is_a_function_of_its_seed_and_held_out_rows_stay_held_out(tmp_path: Path, curation: Curation) -> None:
    rows = math.rows("train", 0, 100)
    write(tmp_path / "rows.jsonl", rows)
    write(tmp_path / "turned.jsonl", rows[::-1])

    def drawn(file: str, split: Any, **changes: Any) -> set[str]:
        found = replace(curation, held_out=10, rows=40, **changes)
        return {e.uid for e in OpenR1Math(str(tmp_path / file), curation=found).examples("m", split)}

    train, test = drawn("rows.jsonl", "train"), drawn("rows.jsonl", "test")
    assert (len(train), len(test)) == (40, 10)
    assert not train & test
    assert drawn("turned.jsonl", "train") == train  # whatever the order of the rows
    assert drawn("rows.jsonl", "train", seed=1) != train
