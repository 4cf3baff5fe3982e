"""MT-Bench: two-turn writing and roleplay questions, judged against GPT-4's answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.writing import transcript
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.cells import text_defect
from omnithink_pl.sources.files import find_files
from omnithink_pl.types import Example, Group, Message

CATEGORIES = ("writing", "roleplay")
QUESTIONS = "data/mt_bench/question.jsonl"
BASELINE = "data/mt_bench/model_answer/gpt-4.jsonl"
# The day on which FastChat released MT-Bench with its pre-generated answers, the paper's baseline.
RELEASED = datetime(2023, 6, 16, tzinfo=UTC)

log = logging.getLogger(__name__)


@final
class MTBench(Source):
    """FastChat's MT-Bench (Apache-2.0; Zheng et al. 2023): the first 20 of its 80 questions, writing and roleplay.

    A question: ``{"question_id": 81, "category": "writing", "turns": ["Compose an engaging travel blog post ...",
    "Rewrite your previous response. Start every sentence with the letter A."]}``. A baseline answer:
    ``{"question_id": 81, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["...", "..."]}], ...}``.

    Both turns count. The second follows the policy's own first answer and is judged with the prompt for
    conversations. Each answer is compared with GPT-4's in both positions; verdicts that disagree are a tie. The score
    is the win rate with ties as 0.5, beside the raw one. All this is FastChat's; judge model and prompts are ours.

    The baseline of the paper are GPT-4's answers of 16 June 2023, those that FastChat released. Each carries the time
    at which it was made; later ones, which other copies have, give another win rate, and a warning.

    Args:
        path: A directory with ``data/mt_bench/question.jsonl`` and ``data/mt_bench/model_answer/gpt-4.jsonl``, as in
            the hub's space of this id, or that id.
        revision: Commit, tag or branch of the space.
        baseline_sha256: SHA-256 of GPT-4's answers; another file is refused. The one that was read is logged.
    """

    version: ClassVar[str] = "1"

    def __init__(
        self, path: str = "lmsys/mt-bench", revision: str | None = None, baseline_sha256: str | None = None
    ) -> None:
        self.path = path
        self.baseline_sha256 = baseline_sha256
        self.revision = revision
        self.data_version = ""
        self._turns: dict[str, tuple[list[str], list[str]]] = {}

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the first turn of every question."""
        if split == "train":
            return []
        questions, baseline = self._files()
        self.data_version = hashlib.sha256(questions.read_bytes() + baseline.read_bytes()).hexdigest()[:16]
        self._check_baseline(baseline)
        answers = {row["question_id"]: row for row in _rows(baseline, ("question_id", "choices"))}
        found = []
        for row in _rows(questions, ("question_id", "category", "turns")):
            if row["category"] in CATEGORIES:
                uid, (turns, replies) = str(row["question_id"]), _both_turns(row, answers, baseline)
                self._turns[uid] = turns, replies
                found.append(Example(task, uid, turns[0], replies[0], category=row["category"]))
        return found

    def follow_up(self, group: Group) -> list[Example]:
        """Return the second turn after each first answer."""
        first = group.example
        turns, replies = self._turns[first.uid]
        # The reference is GPT-4's whole conversation; the policy's is what it was asked and said itself.
        said: list[Message] = [
            {"role": "user", "content": turns[0]},
            {"role": "assistant", "content": replies[0]},
            {"role": "user", "content": turns[1]},
        ]
        question, reference = f"1. {turns[0]}\n2. {turns[1]}", transcript(said, replies[1])
        answers: list[Message] = [{"role": "assistant", "content": one.text} for one in group.completions]
        return [
            replace(first, question=question, reference=reference, messages=(*first.messages, answer, said[2]))
            for answer in answers
        ]

    def _check_baseline(self, baseline: Path) -> None:
        """Refuse other answers than those that are pinned; warn of answers that are later than the paper's."""
        found = hashlib.sha256(baseline.read_bytes()).hexdigest()
        log.info("MTBench: %s has the SHA-256 %s", baseline, found)
        if self.baseline_sha256 not in (None, found):
            raise BadInput(
                f"MTBench: {baseline} has the SHA-256 {found}, baseline_sha256 is {self.baseline_sha256}: these are "
                f"other answers of GPT-4; take the file that is pinned, or pin this one"
            )
        made = _times(baseline)
        if made and max(made).date() > RELEASED.date():
            log.warning(
                "MTBench: answers in %s were made until %s; the paper's baseline is of %s: win rates do not compare",
                baseline,
                max(made).date(),
                RELEASED.date(),
            )

    def _files(self) -> list[Path]:
        """Return the questions and the baseline, in a local directory or downloaded from the space."""
        directory, names = Path(self.path).expanduser(), (QUESTIONS, BASELINE)
        if not directory.is_dir():
            if self.path.startswith((".", "/", "~")) or self.path.count("/") != 1:
                raise BadInput(
                    f"MTBench: path {self.path!r} does not exist; give a directory or the id of a space on the hub"
                )
            directory = _download(self.path, self.revision, names)
        for name in names:
            if not (directory / name).is_file():
                raise BadInput(f"MTBench: {directory} has no file {name}; copy it there from the hub's space")
        return [directory / name for name in names]


def _download(space: str, revision: str | None, names: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(space, repo_type="space", revision=revision, allow_patterns=list(names)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise BadInput(
            f"MTBench: the hub's space {space!r} at {revision or 'main'} cannot be reached, or does not exist "
            f"({type(error).__name__}); connect to the network, or give a directory with {', '.join(names)} as its path"
        ) from error


def _rows(file: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    return find_files(f"MTBench({file})", str(file)).read("train", columns)


def _times(answers: Path) -> Sequence[datetime]:
    """Return when each answer was made, as far as the file says."""
    rows = (json.loads(line) for line in answers.read_bytes().splitlines() if line.strip())
    return [datetime.fromtimestamp(row["tstamp"], UTC) for row in rows if row.get("tstamp")]


def _both_turns(row: Mapping[str, Any], answers: Mapping[Any, Any], baseline: Path) -> tuple[list[str], list[str]]:
    """Return the two turns of a question and GPT-4's answers to them."""
    uid, turns = row["question_id"], list(row["turns"])
    if len(turns) != 2 or any(map(text_defect, turns)):
        raise BadInput(f"MTBench: question {uid} has not 2 turns of text; take FastChat's question.jsonl")
    if uid not in answers:
        raise BadInput(
            f"MTBench: question {uid} has no answer in {baseline}; take model_answer/gpt-4.jsonl (FastChat's "
            f"reference_answer covers questions 101-130 only)"
        )
    replies = list(answers[uid]["choices"][0]["turns"])
    if len(replies) != 2 or any(map(text_defect, replies)):
        raise BadInput(
            f"MTBench: question {uid}: its answer in {baseline} has not two turns; take model_answer/gpt-4.jsonl"
        )
    return turns, replies
