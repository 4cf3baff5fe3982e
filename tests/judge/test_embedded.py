"""The embedded judge prefers better stories, and nothing that only looks like one wins."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from omnithink_pl.embedded.problems import PEOPLE
from omnithink_pl.embedded.writing import MOODS, REFERENCE_FLAWS, EmbeddedWriting, WritingProblem, write_story
from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference
from omnithink_pl.judge.embedded import EmbeddedJudge

Writer = Callable[[WritingProblem, random.Random], str]


@pytest.fixture(scope="module")
def judge() -> EmbeddedJudge:
    return EmbeddedJudge()


def win_rate(judge: EmbeddedJudge, write: Writer, batch: int = 8) -> float:
    """Mean reward of a writer against the held-out references, ties a half, in batches of prompts."""
    rng = random.Random(0)
    comparisons = []
    for example in EmbeddedWriting().examples("writing", "test"):
        problem = WritingProblem.parse(example.question)
        assert problem is not None
        comparisons.append(Comparison(example.question, write(problem, rng), str(example.reference)))
    verdicts = [v for i in range(0, len(comparisons), batch) for v in judge.compare(comparisons[i : i + batch])]
    return sum(v.value for v in verdicts if isinstance(v, Preference)) / len(verdicts)


def shuffle(story: str, rng: random.Random) -> str:
    words = story.replace(".", " .").split()
    return " ".join(rng.sample(words, len(words)))


ATTACKS: dict[str, Writer] = {
    "gibberish": lambda p, rng: ". ".join(" ".join(rng.choices(("abc", "hgf", "deca", "fad"), k=8)) for _ in range(3)),
    "keywords": lambda p, rng: "{0} {1} {4}. {2} {5}. {3}.".format(p.hero, *p.words, *MOODS[p.mood]),
    "shuffled": lambda p, rng: shuffle(write_story(p, rng), rng),
    "copied prompt": lambda p, rng: p.question,
    "repetition": lambda p, rng: " ".join([write_story(p, rng).split(".")[0] + "."] * 3),
    "template": lambda p, rng: "One day {0} saw the {1}. Then {4} saw the {2}. At last {4} saw the {3}.".format(
        p.hero, *p.words, PEOPLE[p.hero].lower()
    ),
    "template with mood": lambda p, rng: (
        "One day {0} saw the {1} {5}. Then {4} had the {2} {6}. At last {4} found the {3}.".format(
            p.hero, *p.words, PEOPLE[p.hero].lower(), *MOODS[p.mood]
        )
    ),
    "one good story": lambda p, rng: write_story(
        WritingProblem(p.hero, ("lamp", "river", "bread"), "happy"), random.Random(1)
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_wins_almost_never(judge: EmbeddedJudge, attack: Writer) -> None:
    assert win_rate(judge, attack) <= 0.02


def test_references_written_anew_win_about_as_often_as_they_lose(judge: EmbeddedJudge) -> None:
    flaws, weights = tuple(REFERENCE_FLAWS), tuple(REFERENCE_FLAWS.values())
    assert 0.4 < win_rate(judge, lambda p, rng: write_story(p, rng, rng.choices(flaws, weights)[0])) < 0.6


def test_a_faithful_story_wins_most_of_the_time_and_every_flaw_costs(judge: EmbeddedJudge) -> None:
    faithful = win_rate(judge, write_story)
    flawed = [
        win_rate(judge, lambda p, rng, flaw=flaw: write_story(p, rng, flaw))  # type: ignore[misc]
        for flaw in ("bare", "bland", "short", "wrong mood")
    ]
    assert faithful > 0.75
    assert max(flawed) < faithful - 0.15


def test_a_frame_shared_across_prompts_costs_what_it_does_not_cost_alone(judge: EmbeddedJudge) -> None:
    rng = random.Random(0)
    prompts = [WritingProblem("Mia", ("lamp", "river", word), "sad") for word in ("bread", "song", "key", "map")]
    story, poor = write_story(prompts[0], rng), write_story(prompts[0], rng, "short")
    alone = judge.compare([Comparison(prompts[0].question, story, poor)])
    crowd = judge.compare([Comparison(p.question, story.replace("bread", p.words[2]), poor) for p in prompts])
    assert (alone[0], crowd[0]) == (Preference.WIN, Preference.LOSS)


def test_the_verdict_is_deterministic_and_swaps_with_the_stories(judge: EmbeddedJudge) -> None:
    problem = WritingProblem("Tom", ("key", "door", "map"), "calm")
    good, bad = write_story(problem, random.Random(0)), write_story(problem, random.Random(0), "bare")
    forth, back = Comparison(problem.question, good, bad), Comparison(problem.question, bad, good)
    assert judge.compare([forth]) == EmbeddedJudge().compare([forth]) == [Preference.WIN]
    assert judge.compare([back]) == [Preference.LOSS]


def test_it_refuses_to_judge_other_prompts_rather_than_give_a_zero(judge: EmbeddedJudge) -> None:
    (verdict,) = judge.compare([Comparison("Write a poem about rain.", "Rain.", "More rain.")])
    assert isinstance(verdict, JudgeUnavailable)
