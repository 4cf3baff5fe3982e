"""A data set of demonstrations on disk."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk

from omnithink_pl.data.demonstrations import DemonstrationStore, load_demonstrations
from omnithink_pl.errors import BadInput

ASKED = [{"role": "system", "content": "Think."}, {"role": "user", "content": "?"}]


def row(task: str, completion: str) -> dict[str, Any]:
    return {"task": task, "uid": "r", "messages": ASKED, "completion": completion, "reward": 1.0, "sample": 0}


def test_batches_make_one_data_set_in_their_order_whenever_they_were_added(tmp_path: Path) -> None:
    store = DemonstrationStore(tmp_path)
    assert store.begin({"seed": 0}) == set()
    store.add(1, [row("qa", "second")], {"qa": Counter(kept=1, completions=4)}, {"qa": {"r": 1.0}})
    assert DemonstrationStore(tmp_path).begin({"seed": 0}) == {1}
    counted = {"math": Counter(kept=1, completions=4), "qa": Counter(completions=2)}
    store.add(0, [row("math", "first")], counted, {"math": {"r": 0.5}, "qa": {"s": 0.0}})
    counts = store.finish()
    assert counts["qa"] == Counter(kept=1, completions=6)
    assert load_from_disk(store.dataset)["completion"][:] == ["first", "second"]
    rates = json.loads((tmp_path / "pass_rates.json").read_text())
    assert rates == {"math": {"r": 0.5}, "qa": {"s": 0.0, "r": 1.0}}
    first, second = load_demonstrations(tmp_path, ["math", "qa"])
    assert (first.task, first.reference, list(first.messages)) == ("math", "first", ASKED)
    assert first.uid != second.uid
    assert [e.task for e in load_demonstrations(store.dataset, ["qa"])] == ["qa"], "tasks that no stage trains"


def test_a_folder_that_was_begun_otherwise_is_refused_by_the_setting(tmp_path: Path) -> None:
    DemonstrationStore(tmp_path).begin({"seed": 0, "sampling": {"n": 8}})
    with pytest.raises(BadInput, match=r"was begun with other settings \(sampling\); choose another folder"):
        DemonstrationStore(tmp_path).begin({"seed": 0, "sampling": {"n": 4}})


def test_a_data_set_without_rows_is_not_written(tmp_path: Path) -> None:
    store = DemonstrationStore(tmp_path)
    store.begin({})
    store.add(0, [], {"math": Counter(completions=8)}, {})
    with pytest.raises(BadInput, match="not one completion of 8 was kept"):
        store.finish()
    with pytest.raises(BadInput, match=r"holds no data set; make one with `main\.py predict"):
        load_demonstrations(tmp_path, ["math"])


def test_a_data_set_that_does_not_fit_is_named(tmp_path: Path) -> None:
    Dataset.from_list([{"text": "x"}]).save_to_disk(tmp_path / "other")
    with pytest.raises(BadInput, match="needs the columns task, messages and completion"):
        load_demonstrations(tmp_path / "other", ["math"])
    Dataset.from_list([row("math", "x")]).save_to_disk(tmp_path / "math")
    with pytest.raises(BadInput, match="has no row of code, qa; leave them out of the stages"):
        load_demonstrations(tmp_path / "math", ["qa", "math", "code"])
