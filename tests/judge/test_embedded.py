"""The embedded judge prefers better stories, and nothing that only looks like one wins."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from omnithink_pl.embedded.problems import PEOPLE
from omnithink_pl.embedded.writing import MOODS, REFERENCE_FLAWS, EmbeddedWriting, WritingProblem, tell
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


def gibberish(problem: WritingProblem, rng: random.Random) -> str:
    return ". ".join(" ".join("".join(rng.choices("abcdefgh", k=5)) for _ in range(8)) for _ in range(3)) + "."


def keywords(problem: WritingProblem, rng: random.Random) -> str:
    first, second, third = problem.words
    return f"{problem.hero} {first} {MOODS[problem.mood][0]}. {second} {MOODS[problem.mood][1]}. {third}."


def shuffled(problem: WritingProblem, rng: random.Random) -> str:
    words = tell(problem, rng).replace(".", " .").split()
    return " ".join(rng.sample(words, len(words)))


def prompt_copied(problem: WritingProblem, rng: random.Random) -> str:
    return problem.question


def repetition(problem: WritingProblem, rng: random.Random) -> str:
    return " ".join([tell(problem, rng).split(".")[0] + "."] * 3)


def template(problem: WritingProblem, rng: random.Random) -> str:
    she = PEOPLE[problem.hero].lower()
    first, second, third = problem.words
    return f"One day {problem.hero} saw the {first}. Then {she} saw the {second}. At last {she} saw the {third}."


def template_with_mood(problem: WritingProblem, rng: random.Random) -> str:
    she, moods = PEOPLE[problem.hero].lower(), MOODS[problem.mood]
    first, second, third = problem.words
    return (
        f"One day {problem.hero} saw the {first} {moods[0]}. Then {she} had the {second} {moods[1]}. "
        f"At last {she} found the {third}."
    )


def same_good_story(problem: WritingProblem, rng: random.Random) -> str:
    return tell(WritingProblem(problem.hero, ("lamp", "river", "bread"), "happy"), random.Random(1))


@pytest.mark.parametrize(
    "attack",
    [gibberish, keywords, shuffled, prompt_copied, repetition, template, template_with_mood, same_good_story],
)
def test_an_attack_wins_almost_never(judge: EmbeddedJudge, attack: Writer) -> None:
    assert win_rate(judge, attack) <= 0.02


def test_references_written_anew_win_about_as_often_as_they_lose(judge: EmbeddedJudge) -> None:
    flaws, weights = tuple(REFERENCE_FLAWS), tuple(REFERENCE_FLAWS.values())
    assert 0.4 < win_rate(judge, lambda p, rng: tell(p, rng, rng.choices(flaws, weights)[0])) < 0.6


def test_a_faithful_story_wins_most_of_the_time_and_every_flaw_costs(judge: EmbeddedJudge) -> None:
    faithful = win_rate(judge, tell)
    flawed = [
        win_rate(judge, lambda p, rng, flaw=flaw: tell(p, rng, flaw))  # type: ignore[misc]
        for flaw in ("bare", "bland", "short", "wrong mood")
    ]
    assert faithful > 0.75
    assert max(flawed) < faithful - 0.15


def test_a_frame_shared_across_prompts_costs_what_it_does_not_cost_alone(judge: EmbeddedJudge) -> None:
    rng = random.Random(0)
    prompts = [WritingProblem("Mia", ("lamp", "river", word), "sad") for word in ("bread", "song", "key", "map")]
    story = tell(prompts[0], rng)
    poor = tell(prompts[0], rng, "short")
    alone = judge.compare([Comparison(prompts[0].question, story, poor)])
    crowd = judge.compare([Comparison(p.question, story.replace("bread", p.words[2]), poor) for p in prompts])
    assert alone == [Preference.WIN]
    assert crowd[0] is Preference.LOSS


def test_the_verdict_is_deterministic_and_swaps_with_the_stories(judge: EmbeddedJudge) -> None:
    problem = WritingProblem("Tom", ("key", "door", "map"), "calm")
    good, bad = tell(problem, random.Random(0)), tell(problem, random.Random(0), "bare")
    forth = Comparison(problem.question, good, bad)
    back = Comparison(problem.question, bad, good)
    assert judge.compare([forth]) == EmbeddedJudge().compare([forth]) == [Preference.WIN]
    assert judge.compare([back]) == [Preference.LOSS]


def test_it_refuses_to_judge_other_prompts_rather_than_give_a_zero(judge: EmbeddedJudge) -> None:
    (verdict,) = judge.compare([Comparison("Write a poem about rain.", "Rain.", "More rain.")])
    assert isinstance(verdict, JudgeUnavailable)
