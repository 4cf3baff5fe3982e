"""The judge of the embedded writing task: rules that compare two of its stories, offline and deterministic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import final

from omnithink_pl.embedded.writing import MOODS, NOUNS, EmbeddedWriting, WritingProblem
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference

_WORDS = re.compile(r"[a-z]+|[^\sa-z]")
_START, _STOP, _SLOT = "<s>", "</s>", "_"
_SENTENCES = 3
_MOODY_SENTENCES = 2
# Ramps from 0 to 1 (fluency) and from 1 to 0 (a frame shared with other prompts).
_BROKEN, _FLUENT = 0.5, 0.9
_ORIGINAL, _COPIED = 0.6, 0.95

Trigram = tuple[str, str, str]


@final
class EmbeddedJudge:
    """Prefers the story that does better what its prompt asks.

    The quality of a story is a product of factors in [0, 1]: it names the hero, has three different sentences, uses
    each given word with a verb that fits it, expresses the mood in two sentences and no other mood anywhere, is fluent
    under a trigram model of the embedded references, and does not share its frame with the stories that the same
    batch has for other prompts. The last factor applies to candidates only.

    It knows only prompts of the embedded task: a stand-in that makes learning visible offline, no measure of writing.

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
        """Return one preference per comparison; ``JudgeUnavailable`` for a prompt of another task."""
        problems = [WritingProblem.parse(comparison.prompt) for comparison in comparisons]
        originality = _originality(problems, comparisons)
        quality = cache(self.quality)
        verdicts: list[Preference | JudgeUnavailable] = []
        for problem, comparison, original in zip(problems, comparisons, originality, strict=True):
            if problem is None:
                verdicts.append(JudgeUnavailable("the embedded judge knows only prompts of the embedded writing task"))
                continue
            lead = original * quality(problem, comparison.candidate) - quality(problem, comparison.reference)
            tie = abs(lead) < self.margin
            verdicts.append(Preference.TIE if tie else Preference.WIN if lead > 0 else Preference.LOSS)
        return verdicts

    def quality(self, problem: WritingProblem, story: str) -> float:
        """Return how well one story does what is asked, in [0, 1], whatever the other stories are."""
        sentences = [part.strip() for part in story.split(".") if part.strip()]
        if problem.hero not in story or not sentences:
            return 0.0
        form = (min(len(set(sentences)), _SENTENCES) / max(len(sentences), _SENTENCES)) ** 2
        uses = sum(_use(word, sentences) for word in problem.words) / len(problem.words)
        fluency = _ramp(self.model.fluency(story), _BROKEN, _FLUENT)
        return form * uses * (0.25 + 0.75 * _mood(problem.mood, sentences)) * fluency

    def close(self) -> None:
        """Release nothing."""


class TrigramModel:
    """Word trigrams of a corpus, backing off to pairs."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.triples = {triple for text in texts for triple in _padded_trigrams(text)}
        self.pairs = {triple[1:] for triple in self.triples}

    def fluency(self, text: str) -> float:
        """Return the share of a text's trigrams that the corpus has; one with only its last pair counts a third."""
        if not _words(text):
            return 0.0
        triples = _padded_trigrams(text)
        return sum(1.0 if t in self.triples else 1 / 3 if t[1:] in self.pairs else 0.0 for t in triples) / len(triples)


def _words(text: str) -> list[str]:
    """Return lower-case words and single signs."""
    return _WORDS.findall(text.lower())


def _padded_trigrams(text: str) -> list[Trigram]:
    words = [_START, _START, *_words(text), _STOP]
    return list(zip(words, words[1:], words[2:], strict=False))


def _use(word: str, sentences: Sequence[str]) -> float:
    """Return 1 where a sentence does something fitting with the word, a tenth where it only has the word."""
    if any(phrase in sentence for sentence in sentences for phrase in NOUNS.get(word, ())):
        return 1.0
    return 0.1 if any(word in _words(sentence) for sentence in sentences) else 0.0


def _mood(mood: str, sentences: Sequence[str]) -> float:
    """Return the share of the wanted sentences that express the mood in different ways; 0 if any expresses another."""
    found = {m: {phrase for s in sentences for phrase in phrases if phrase in s} for m, phrases in MOODS.items()}
    if any(phrases for other, phrases in found.items() if other != mood):
        return 0.0
    return min(len(found[mood]), _MOODY_SENTENCES) / _MOODY_SENTENCES


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _originality(problems: Sequence[WritingProblem | None], comparisons: Sequence[Comparison]) -> list[float]:
    """Return 1 for a candidate of its own, 0 for one whose frame the candidates of all other prompts share.

    The frame is a story with slots for the hero and the given words. Its commonness is the mean, over its trigrams,
    of the share of *other* prompts in the batch with a candidate that has the trigram.
    """
    frames = [_frame(problem, c.candidate) for problem, c in zip(problems, comparisons, strict=True)]
    of_prompt: dict[str, set[Trigram]] = {}
    for comparison, frame in zip(comparisons, frames, strict=True):
        of_prompt.setdefault(comparison.prompt, set()).update(frame)
    others = len(of_prompt) - 1
    if others < 1:
        return [1.0] * len(frames)
    prompts_with = Counter(triple for triples in of_prompt.values() for triple in triples)
    common = [sum(prompts_with[t] - 1 for t in frame) / (others * max(len(frame), 1)) for frame in frames]
    return [1.0 - _ramp(share, _ORIGINAL, _COPIED) for share in common]


def _frame(problem: WritingProblem | None, story: str) -> set[Trigram]:
    if problem is None:
        return set()
    slots = {problem.hero.lower(), *problem.words}
    words = [_SLOT if word in slots else word for word in _words(story)]
    return set(zip(words, words[1:], words[2:], strict=False))
