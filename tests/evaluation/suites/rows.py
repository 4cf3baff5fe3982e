"""A row of every suite in the shape that its data set documents, with our texts and few of the unread columns."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def packed(cases: list[Row]) -> str:
    """Private tests as LiveCodeBench packs them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def case(given: str, expected: str, kind: str = "stdin") -> Row:
    return {"input": given, "output": expected, "testtype": kind}


CODE = "import itertools\n\ndef running(xs):"
MATH: dict[str, Row] = {
    "AIME24": {"id": 60, "problem": "Find the number of minutes.", "answer": "204", "year": "2024"},
    "AMC23": {"problem": "How many miles?", "answer": 27.0, "question": "How many miles?"},
    "Gaokao2023EN": {"question": "What is $x$?", "answer": "$-\\frac{1}{2}$", "lang": "en"},
    "Math500": {
        "problem": "Convert the point.",
        "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
        "subject": "Precalculus",
        "unique_id": "test/precalculus/807.json",
    },
    "Minerva": {"question": "Find the resolution in radians.", "answer": "7e-8"},
    "OlympiadBench": {"id": 1606, "question": "Solve for $x$.", "final_answer": ["$2,-\\frac{1}{3}$"], "context": None},
    "GSM8K": {"question": "How much?", "answer": "He made 120,000-50,000=<<120000-50000=70000>>70,000\n#### 70,000"},
}
HUMANEVAL: Row = {
    "task_id": "HumanEval/900",
    "prompt": 'from itertools import accumulate\n\n\ndef running(xs):\n    """ Sums so far. """\n',
    "entry_point": "running",
    "canonical_solution": "    return list(accumulate(xs))\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2, 3]) == [1, 3, 6]\n",
}
BIGCODEBENCH: Row = {
    "task_id": "BigCodeBench/900",
    "complete_prompt": f'{CODE}\n    """Sums so far."""\n',
    "canonical_solution": "    return list(itertools.accumulate(xs))\n",
    "code_prompt": CODE,
    "test": (
        "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_sums(self):\n        self.assertEqual(running([1, 2, 3]), [1, 3, 6])\n"
        "    def test_empty(self):\n        self.assertEqual(running([]), [])\n"
    ),
    "entry_point": "running",
    "libs": "['itertools']",
}
STDIN: Row = {
    "question_content": "Print the sum of the numbers in each line.",
    "question_id": "abc377_a",
    "contest_date": "2024-10-26T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([case("1 2\n", "3\n")]),
    "private_test_cases": packed([case("1 2\n3 4\n", "3\n7")]),
    "metadata": "{}",
}
FUNCTIONAL: Row = STDIN | {
    "question_content": "Return the pair of both.",
    "question_id": "3566",
    "contest_date": "2025-01-31T00:00:00",
    "starter_code": "class Solution:\n    def pair(self, a: int, b: List[int]) -> List[int]:\n        ",
    "public_test_cases": json.dumps([case('3\n[4, "x"]', '[3, [4, "x"]]', "functional")]),
    "private_test_cases": json.dumps([case("0\n[]", "[0, []]", "functional")]),
    "metadata": json.dumps({"func_name": "pair"}),
}
MMLU_PRO: Row = {
    "question_id": 70,
    "question": "Which metal is liquid at room temperature?",
    "options": ["Iron", "Mercury", "Gold", "Zinc", "Tin", "Lead", "Silver", "N/A", "Copper", "N/A"],
    "answer": "B",
    "answer_index": 1,
    "category": "chemistry",
}


def question(number: int, category: str = "writing") -> Row:
    return {"question_id": number, "category": category, "turns": [f"Write {number}.", "Now in rhyme."]}


def gpt4(number: int) -> Row:
    turns = [f"Text {number}.", "In rhyme, some time."]
    return {"question_id": number, "answer_id": "a", "model_id": "gpt-4", "choices": [{"index": 0, "turns": turns}]}


def write(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mt_bench(directory: Path, questions: list[Row], answers: list[Row]) -> Path:
    """The two files of FastChat's space."""
    write(directory / "data/mt_bench/question.jsonl", *questions)
    write(directory / "data/mt_bench/model_answer/gpt-4.jsonl", *answers)
    return directory
