"""MMLU-Pro by full text and by letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites import MMLUPro
from omnithink_pl.tasks import QA
from omnithink_pl.types import Completion, Group, Options
from tests.evaluation.suites.rows import MMLU_PRO, Row, write
from tests.rewards.groups import answered


def scores(task: QA, *answers: str) -> list[float | None]:
    (example,) = task.examples("test", 0)
    group = Group(example, (), tuple(Completion((), (), answered(answer), "stop") for answer in answers))
    return [score.primary.value for score in task.rubric.score([group])[0]]


def test_full_text_and_letter_ask_the_same_options_in_the_same_order(tmp_path: Path) -> None:
    path = str(write(tmp_path / "rows.jsonl", MMLU_PRO))
    text, letter = QA(MMLUPro(path)), QA(MMLUPro(path), answer="letter")
    (by_text,), (by_letter,) = text.examples("test", 0), letter.examples("test", 0)
    assert by_text.reference == by_letter.reference
    assert by_text.category == "chemistry"
    assert isinstance(by_text.reference, Options)
    shown = by_text.reference.texts
    assert sorted(shown) == sorted(o for o in MMLU_PRO["options"] if o != "N/A")
    assert [line[2:] for line in by_text.messages[1]["content"].split("\n")[1:-1]] == list(shown)
    lettered = [f"{a}. {b}" for a, b in zip("ABCDEFGH", shown, strict=True)]
    assert by_letter.messages[1]["content"].split("\n")[1:-1] == lettered
    right, wrong = ("ABCDEFGH"[shown.index(option)] for option in ("Mercury", "Iron"))
    assert scores(text, "Mercury", "Iron", right) == [1.0, 0.0, 0.0]
    assert scores(letter, right, wrong, "Mercury") == [1.0, 0.0, 0.0]
    text.close()
    letter.close()


@pytest.mark.parametrize("change", [{"answer": "C"}, {"answer_index": 12}, {"answer": "H", "answer_index": 7}])
def test_an_answer_that_names_no_option_is_refused(change: Row, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"MMLUPro\(.*row 0 \(question_id 70\): 'answer' .* do not name one"):
        MMLUPro(str(write(tmp_path / "rows.jsonl", MMLU_PRO | change))).examples("qa", "test")
