"""How fluent a text is, by the words that follow one another in a corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import final

from omnithink_pl.embedded.writing import MOODS, NOUNS, EmbeddedWriting, WritingProblem
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference

START, STOP = "<s>", "</s>"

_WORDS = re.compile(r"[a-z]+|[^\sa-z]")


def words(text: str) -> list[str]:
    """Lower-case words and single signs."""
    return _WORDS.findall(text.lower())


class TrigramModel:
    """Word trigrams, backing off to pairs, of a corpus.

    Args:
        texts: The corpus.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.triples: set[tuple[str, str, str]] = set()
        self.pairs: set[tuple[str, str]] = set()
        for text in texts:
            padded = [START, START, *words(text), STOP]
            self.triples.update(zip(padded, padded[1:], padded[2:], strict=False))
            self.pairs.update(pairwise(padded))

    def fluency(self, text: str) -> float:
        """Share of the text's trigrams that the corpus has; where it has only the last pair, a third counts.

        Returns:
            A number in [0, 1]; 0 for the empty text.
        """
        padded = [START, START, *words(text), STOP]
        if len(padded) == 3:
            return 0.0
        triples = list(zip(padded, padded[1:], padded[2:], strict=False))
        known = sum(1.0 if t in self.triples else (1 / 3 if t[1:] in self.pairs else 0.0) for t in triples)
        return known / len(triples)


SENTENCES = 3
MOODY_SENTENCES = 2
FLUENT, BROKEN = 0.9, 0.5
ORIGINAL, COPIED = 0.6, 0.95
SLOT = "_"


@final
class EmbeddedJudge:
    """Prefers the story that does better what its prompt asks.

    The quality of a story is a product of factors in [0, 1]: it names the hero, has three
    different sentences, uses each given word with a verb that fits it, expresses the mood in two
    sentences and no other mood anywhere, is fluent under a trigram model of the embedded
    references, and does not share its frame with the stories that the same batch has for other
    prompts. The last factor applies to candidates only: references are not a policy's doing.

    It judges nothing else, and only prompts of the embedded task: it is a stand-in that makes
    learning visible offline, no measure of writing.

    Args:
        margin: Difference in quality below which two stories tie.
    """

    def __init__(self, margin: float = 0.03) -> None:
        self.margin = margin

    @cached_property
    def model(self) -> TrigramModel:
        """The trigram model, built on first use."""
        return TrigramModel(str(example.reference) for example in EmbeddedWriting().examples("writing", "train"))

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """One preference per comparison; ``JudgeUnavailable`` for a prompt that is not of the embedded task."""
        problems = [WritingProblem.parse(comparison.prompt) for comparison in comparisons]
        originality = _originality(problems, comparisons)
        qualities: dict[tuple[str, str], float] = {}
        verdicts: list[Preference | JudgeUnavailable] = []
        for problem, comparison, original in zip(problems, comparisons, originality, strict=True):
            if problem is None:
                verdicts.append(JudgeUnavailable("the embedded judge knows only prompts of the embedded writing task"))
                continue
            for text in (comparison.candidate, comparison.reference):
                if (comparison.prompt, text) not in qualities:
                    qualities[comparison.prompt, text] = self.quality(problem, text)
            lead = (
                original * qualities[comparison.prompt, comparison.candidate]
                - qualities[comparison.prompt, comparison.reference]
            )
            verdicts.append(
                Preference.TIE if abs(lead) < self.margin else Preference.WIN if lead > 0 else Preference.LOSS
            )
        return verdicts

    def quality(self, problem: WritingProblem, story: str) -> float:
        """How well one story does what is asked, in [0, 1], whatever the other stories are."""
        sentences = [part.strip() for part in story.split(".") if part.strip()]
        if problem.hero not in story or not sentences:
            return 0.0
        form = (min(len(set(sentences)), SENTENCES) / max(len(sentences), SENTENCES)) ** 2
        uses = sum(_use(word, sentences) for word in problem.words) / len(problem.words)
        fluency = _ramp(self.model.fluency(story), BROKEN, FLUENT)
        return form * uses * (0.25 + 0.75 * _mood(problem.mood, sentences)) * fluency

    def close(self) -> None:
        """Nothing to release."""


def _use(word: str, sentences: Sequence[str]) -> float:
    """1 where a sentence does something fitting with the word, a tenth where it only has the word."""
    if any(phrase in sentence for sentence in sentences for phrase in NOUNS.get(word, ())):
        return 1.0
    return 0.1 if any(word in words(sentence) for sentence in sentences) else 0.0


def _mood(mood: str, sentences: Sequence[str]) -> float:
    """Share of the wanted sentences that express the mood in different ways; 0 if any expresses another."""
    found = {phrase for sentence in sentences for phrase in MOODS[mood] if phrase in sentence}
    others = any(
        phrase in sentence
        for sentence in sentences
        for other, phrases in MOODS.items()
        if other != mood
        for phrase in phrases
    )
    return 0.0 if others else min(len(found), MOODY_SENTENCES) / MOODY_SENTENCES


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _originality(problems: Sequence[WritingProblem | None], comparisons: Sequence[Comparison]) -> list[float]:
    """1 for a candidate of its own, 0 for one whose frame the candidates of all other prompts share.

    The frame is what is left when the hero and the given words become slots. A frame's
    commonness is the mean, over its trigrams, of the share of *other* prompts in the batch
    with a candidate that has the trigram.
    """
    frames = [
        _frame(problem, comparison.candidate) if problem else set()
        for problem, comparison in zip(problems, comparisons, strict=True)
    ]
    of_prompt: dict[str, set[tuple[str, ...]]] = {}
    for comparison, frame in zip(comparisons, frames, strict=True):
        of_prompt.setdefault(comparison.prompt, set()).update(frame)
    others = len(of_prompt) - 1
    if others < 1:
        return [1.0] * len(frames)
    prompts_with = Counter(triple for triples in of_prompt.values() for triple in triples)
    return [
        1.0 - _ramp(sum(prompts_with[t] - 1 for t in frame) / (others * max(len(frame), 1)), ORIGINAL, COPIED)
        for frame in frames
    ]


def _frame(problem: WritingProblem, story: str) -> set[tuple[str, ...]]:
    slots = {problem.hero.lower(), *problem.words}
    masked = [SLOT if word in slots else word for word in words(story)]
    return set(zip(masked, masked[1:], masked[2:], strict=False))
