"""MT-Bench: two turns, GPT-4's answers, and the judge's own prompt for the second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites import MTBench
from omnithink_pl.evaluation.suites.base import TwoTurns
from omnithink_pl.evaluation.suites.mt_bench import BASELINE
from omnithink_pl.judge import Comparison, Preference
from omnithink_pl.judge.endpoint import Endpoint, OpenAIJudge
from omnithink_pl.rewards import WritingReward
from omnithink_pl.tasks import Writing
from omnithink_pl.types import Completion, Group
from tests.evaluation.suites.rows import gpt4, mt_bench, question
from tests.judge.scripted import scripted_server
from tests.rewards.groups import answered


class Recording:
    """A judge that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Comparison] = []

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        self.asked += comparisons
        return [Preference.WIN for _ in comparisons]

    def close(self) -> None:
        pass


@pytest.fixture
def source(tmp_path: Path) -> MTBench:
    questions = [question(81), question(91, "roleplay"), question(101, "reasoning")]
    return MTBench(str(mt_bench(tmp_path, questions, [gpt4(81), gpt4(91)])))


def both_turns(task: Writing, source: MTBench) -> tuple[Group, Group]:
    first = Group(task.examples("test", 0)[0], (), (Completion((), (), answered("My text."), "stop"),))
    (example,) = source.follow_up(first)
    return first, Group(example, (), (Completion((), (), answered("My rhyme."), "stop"),))


def test_writing_and_roleplay_are_asked_against_gpt4(source: MTBench) -> None:
    found = source.examples("writing", "test")
    assert [(e.uid, e.category, e.question, e.reference) for e in found] == [
        ("81", "writing", "Write 81.", "Text 81."),
        ("91", "roleplay", "Write 91.", "Text 91."),
    ]
    assert isinstance(source, TwoTurns)


def test_the_second_turn_follows_the_policys_own_first_answer(source: MTBench) -> None:
    judge = Recording()
    task = Writing(source, judge)
    first, second = both_turns(task, source)
    said = [(message["role"], message["content"]) for message in second.example.messages[1:]]
    assert said == [("user", "Write 81."), ("assistant", answered("My text.")), ("user", "Now in rhyme.")]
    WritingReward(judge).score([first, second])
    assert judge.asked[0] == Comparison("Write 81.", "My text.", "Text 81.")
    assert judge.asked[1] == Comparison(
        "1. Write 81.\n2. Now in rhyme.",
        "Question: Write 81.\n\nAnswer: My text.\n\nQuestion: Now in rhyme.\n\nAnswer: My rhyme.",
        "Question: Write 81.\n\nAnswer: Text 81.\n\nQuestion: Now in rhyme.\n\nAnswer: In rhyme, some time.",
        turns=2,
    )


def test_a_judge_has_a_prompt_of_its_own_for_the_second_turn(source: MTBench) -> None:
    with scripted_server() as server:
        judge = OpenAIJudge("judge", Endpoint(base_url=server.url, api_key_env=None), cache=None)
        assert (judge.prompt.version, judge.conversation_prompt.version) == ("pairwise_v1", "pairwise_turns_v1")
        asked = judge.conversation_prompt.messages("1. Write 81.", "Answer: mine", "Answer: yours", "#1")
        assert "last answer" in asked[1]["content"]
        first, second = both_turns(Writing(source, judge), source)
        assert [row[0].value is not None for row in WritingReward(judge).score([first, second])] == [True, True]
        judge.close()


JUNE, JULY = 1_686_900_000.5, 1_688_968_315.9  # 16 June and 10 July 2023


def test_later_answers_than_the_papers_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, made in (("old", JUNE), ("new", JULY)):
        mt_bench(tmp_path / name, [question(81)], [gpt4(81) | {"tstamp": made}])
        MTBench(str(tmp_path / name)).examples("writing", "test")
        assert ("were made until 2023-07-10; the paper's baseline is of 2023-06-16" in caplog.text) == (name == "new")


def test_other_answers_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    path = mt_bench(tmp_path, [question(81)], [gpt4(81)])
    pinned = hashlib.sha256((path / BASELINE).read_bytes()).hexdigest()
    assert len(MTBench(str(path), baseline_sha256=pinned).examples("writing", "test")) == 1
    mt_bench(tmp_path, [question(81)], [gpt4(81) | {"answer_id": "b"}])
    with pytest.raises(BadInput, match=rf"has the SHA-256 \w+, baseline_sha256 is {pinned}: these are other answers"):
        MTBench(str(path), baseline_sha256=pinned).examples("writing", "test")


def refused(message: str, path: str = "lmsys/mt-bench") -> None:
    with pytest.raises(BadInput, match=message):
        MTBench(path).examples("writing", "test")


def test_a_missing_file_a_missing_baseline_a_missing_turn_and_no_network_are_named(tmp_path: Path) -> None:
    path = str(tmp_path)
    refused(r"has no file data/mt_bench/question\.jsonl; copy it there", path)
    mt_bench(tmp_path, [question(81)], [gpt4(101)])
    refused(r"question 81 has no answer in .*take model_answer/gpt-4\.jsonl", path)
    mt_bench(tmp_path, [question(81) | {"turns": ["Only one."]}], [gpt4(81)])
    refused("question 81 has not 2 turns of text", path)
    refused(r"space 'lmsys/mt-bench' at main cannot be reached.* give a directory")
