"""Worked examples: what the packaged ones show, and that only sampling sees them."""

from __future__ import annotations

import json
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from main import CONFIGS, main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import load_tokenizer
from omnithink_pl.prompts import render
from omnithink_pl.prompts.worked import load_worked_examples, with_worked_examples
from omnithink_pl.rewards.code import extract_program
from omnithink_pl.rewards.format import FormatReward, TagsReward, extract_answer
from omnithink_pl.rollout import TransformersEngine
from omnithink_pl.types import Completion, Example, Group, Message, UnitTests

WORKED = load_worked_examples("worked_v1")


def test_the_packaged_examples_earn_the_full_format_for_every_task() -> None:
    assert set(WORKED) == {"code", "math", "qa", "writing"}
    for task, turns in WORKED.items():
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2, task
        answers = tuple(Completion((), (), turn["content"], "stop") for turn in turns[1::2])
        group = Group(Example(task, "u", "", ""), (), answers)
        for reward in (FormatReward(), TagsReward()):
            assert [outcome.value for outcome in reward.score([group])[0]] == [1.0, 1.0]


def test_the_packaged_examples_are_asked_as_their_task_asks() -> None:
    endings = {
        task: render(f"{task}_v1", question="", options=[]).rpartition("\n")[2] for task in ("code", "math", "qa")
    }
    for task, ending in endings.items():
        assert ending
        assert all(turn["content"].endswith(ending) for turn in WORKED[task][::2]), task


def test_the_packaged_programs_pass_the_test_that_they_are_shown() -> None:
    asked, answered = WORKED["code"][::2], WORKED["code"][1::2]
    for question, answer in zip(asked, answered, strict=True):
        test = question["content"].splitlines()[2]
        program = extract_program(extract_answer(answer["content"]) or "", UnitTests(functional=test))
        exec(f"{program}\n{test}", {})


def test_the_packaged_options_hold_the_answer() -> None:
    for question, answer in zip(WORKED["qa"][::2], WORKED["qa"][1::2], strict=True):
        assert f"- {extract_answer(answer['content'])}\n" in question["content"]


def test_examples_stand_between_the_system_prompt_and_the_question() -> None:
    chat: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    shown = with_worked_examples(chat, WORKED["qa"])
    assert [turn["role"] for turn in shown] == ["system", *["user", "assistant"] * 2, "user"]
    assert (shown[0], shown[-1]) == tuple(chat)
    assert with_worked_examples(chat, ()) == tuple(chat)


@pytest.mark.parametrize("row", ["{", '{"task": "math", "user": "?"}', "[]", "3"])
def test_a_bad_row_is_named(row: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(f'{{"task": "math", "user": "?", "assistant": "!"}}\n{row}\n')
    with pytest.raises(BadInput, match=r"model\.worked_examples: .*mine\.jsonl, line 2: .*needs task, user, assistant"):
        load_worked_examples(str(file))
    with pytest.raises(BadInput, match=r"model\.worked_examples: no file 'none'; give the path"):
        load_worked_examples("none")


def test_predict_samples_behind_the_examples_and_stores_the_plain_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = {"task": "math", "user": "two", "assistant": "<think>2</think><answer>2</answer>"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(turns))
    tokenizer, prompts = load_tokenizer("embedded"), list[str]()
    sample = TransformersEngine.generate

    @wraps(sample)
    def listen(engine: Any, asked: Any, *how: Any) -> Any:
        prompts.extend(tokenizer.decode(prompt) for prompt in asked)
        return sample(engine, asked, *how)

    monkeypatch.setattr(TransformersEngine, "generate", listen)
    main(
        [
            *("predict", f"--config={CONFIGS / 'sft_data.yaml'}", "--trainer.logger=false"),
            "--curriculum.stages=[{tasks: {math: 1, qa: 1}, steps: 1}]",
            *("--data.sampled_prompts=6", "--model.sampling.group_size=4", "--data.batch_size=6"),
            *(f"--demonstrations.output={tmp_path / 'data'}", f"--model.worked_examples={tmp_path / 'mine.jsonl'}"),
        ]
    )
    assert len(prompts) == 12
    assert [turns["assistant"] in prompt for prompt in prompts] == [True] * 6 + [False] * 6
    rows = load_from_disk(tmp_path / "data" / "dataset").to_list()
    assert {row["task"] for row in rows} <= {"math", "qa"}
    assert all(len(row["messages"]) == 2 for row in rows)
