"""A data set of demonstrations on disk."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk

from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.demonstrations import (
    DemonstrationStore,
    load_demonstrations,
    prompts_version,
)
from omnithink_pl.embedded import EmbeddedMath, EmbeddedQA
from omnithink_pl.errors import BadInput
from omnithink_pl.tasks import QA, Math
from omnithink_pl.types import Example, Message

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


def demonstrations(path: Path, examples: list[Example]) -> str:
    rows = [
        {"task": e.task, "uid": e.uid, "messages": [dict(m) for m in e.messages], "completion": "<answer>1</answer>"}
        for e in examples
    ]
    Dataset.from_list(rows).save_to_disk(path)
    return str(path)


def test_a_prompt_that_a_run_holds_out_is_not_trained_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = MultiTaskData({"math": Math(EmbeddedMath()), "qa": QA(EmbeddedQA())})
    data.setup("fit")
    own = [e for e in data.train if e.task == "qa"][:4]
    shuffled = QA(EmbeddedQA()).examples("test", seed=7)[:3]  # the options in another order: by the uid
    nameless = [replace(e, uid="") for e in data.held_out["math"][:2]]  # by the prompt
    namesake = replace(data.train[0], uid=data.held_out["math"][5].uid)  # another split's row of this number
    path = demonstrations(tmp_path / "rows", [*own, *shuffled, *nameless, namesake])
    tuned = MultiTaskData(dict(data.tasks), demonstrations=path)
    tuned.setup("fit")
    assert [(e.task, e.messages) for e in tuned.train] == [(e.task, e.messages) for e in (*own, namesake)]
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [text for text in said if "left out" in text] == [
        "data.demonstrations: 2 of 3 rows of math are left out: this run holds their prompts out",
        "data.demonstrations: 3 of 7 rows of qa are left out: this run holds their prompts out",
    ]
    path = demonstrations(tmp_path / "none", [*own, *nameless])
    with pytest.raises(BadInput, match="has no row of math"):
        MultiTaskData(dict(data.tasks), demonstrations=path).setup("fit")


def test_prompts_are_the_same_while_nothing_of_them_changes() -> None:
    asked: Message = {"role": "user", "content": "1 + 1?"}
    example = Example("math", "r", "1 + 1?", "2", (asked,))
    same = prompts_version([example])
    assert prompts_version([replace(example)]) == same
    others = [replace(example, uid="s"), replace(example, reference="3"), replace(example, messages=(asked, asked))]
    assert len({same, prompts_version([example] * 2), *(prompts_version([one]) for one in others)}) == 5


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
