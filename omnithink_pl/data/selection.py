"""Which sampled completions are worth imitating."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnithink_pl.errors import BadInput
from omnithink_pl.types import State

if TYPE_CHECKING:
    from omnithink_pl.modules.scored import ScoredGroup
    from omnithink_pl.types import Completion, Score

Counts = dict[str, Counter[str]]
COUNTED = (
    "prompts",
    "solved",
    "completions",
    "correct",
    "malformed",
    "repeated",
    "surplus",
    "undefined",
    "failed",
    "kept",
)


@dataclass(frozen=True)
class Selection:
    """Rejection sampling: of the completions of a prompt, the correct ones, without repetitions and not too many.

    Yuan et al. 2023, "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models", section 3.3.

    Args:
        correct: Smallest primary reward that counts as correct.
        per_prompt: Most completions that are kept of one prompt, the first that were drawn; null: all.
        well_formed: Keep only what also has the full format and tags rewards, so that a broken form is not taught.
    """

    correct: float = 1.0
    per_prompt: int | None = 4
    well_formed: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.correct <= 1.0:
            raise BadInput(f"demonstrations.selection.correct is {self.correct}; it is a reward, above 0 and at most 1")
        if self.per_prompt is not None and self.per_prompt < 1:
            raise BadInput(f"demonstrations.selection.per_prompt is {self.per_prompt}; use 1 or more, or null for all")

    def __call__(self, groups: Sequence[ScoredGroup]) -> tuple[list[dict[str, Any]], Counts]:
        """The rows of the completions to keep, and what became of all of them, by task.

        A completion that we failed to score is counted as such, and is neither correct nor wrong.
        """
        rows: list[dict[str, Any]] = []
        counts: Counts = {}
        for scored in groups:
            count = counts.setdefault(scored.task, Counter())
            verdicts = list(self._verdicts(scored))
            count.update(verdicts)
            kept = [i for i, verdict in enumerate(verdicts) if verdict == "kept"]
            right = sum(verdict in {"kept", "malformed", "repeated", "surplus"} for verdict in verdicts)
            count.update(prompts=1, completions=len(verdicts), solved=int(right > 0), correct=right)
            rows += [_row(scored, i) for i in kept]
        return rows, counts

    def _verdicts(self, scored: ScoredGroup) -> Iterator[str]:
        seen: set[str] = set()
        for completion, score in zip(scored.group.completions, scored.scores, strict=True):
            verdict = self._verdict(completion, score)
            text = " ".join(completion.text.split())
            if verdict == "kept" and text in seen:
                verdict = "repeated"
            elif verdict == "kept" and self.per_prompt is not None and len(seen) >= self.per_prompt:
                verdict = "surplus"
            elif verdict == "kept":
                seen.add(text)
            yield verdict

    def _verdict(self, completion: Completion, score: Score) -> str:
        primary = score.primary
        if score.state is State.FAILED:
            return "failed"
        if primary.value is None:
            return "undefined"
        if primary.value < self.correct:
            return "wrong"
        whole = all(component.outcome.value == 1.0 for component in score.components[1:])
        ended = completion.finish_reason == "stop"
        return "kept" if ended and (whole or not self.well_formed) else "malformed"


def _row(scored: ScoredGroup, place: int) -> dict[str, Any]:
    example = scored.group.example
    return {
        "task": example.task,
        "uid": example.uid,
        "messages": [dict(message) for message in example.messages],
        "completion": scored.group.completions[place].text,
        "reward": scored.scores[place].primary.value,
        "sample": place,
    }
