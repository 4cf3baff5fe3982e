"""What the runs of a study measured, as plain values: what tables and figures are made of.

A *score* has a name: ``math`` is a task's held-out score sampled at temperature 1, ``math/greedy`` the greedy one,
``math/aime24`` a benchmark, ``qa/mmlu_pro/law`` one of its categories, and ``math/*`` the mean of a domain's
benchmarks. A domain that ends in ``_letter`` holds benchmarks answered with a letter; it is no task of its own. All
scores are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage

ByPrompt = Mapping[str, float]
BASE = "base"
LETTER = "_letter"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Args:
        run_id: Id in the store.
        run: Name of the run in the study.
        method: What it stands for in the report.
        seed: Its seed.
        paper: Column of the paper's tables that it repeats.
        stages: What it trained, in order; empty for a run that only evaluates.
        scores: Final scores by name.
        base: Scores before training by name; empty for a run that only evaluates.
        prompts: Final score of each prompt, by name of the score and uid.
        base_prompts: The same before training.
        matrix: The score matrix, where the run has one.
        rewards: Training rewards of each task: points (step, mean primary reward).
        seconds: How long it took.
    """

    run_id: str
    run: str
    method: str
    seed: int
    paper: str | None = None
    stages: tuple[Stage, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, float] = field(default_factory=dict)
    prompts: Mapping[str, ByPrompt] = field(default_factory=dict)
    base_prompts: Mapping[str, ByPrompt] = field(default_factory=dict)
    matrix: ScoreMatrix | None = None
    rewards: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def order(self) -> tuple[str, ...]:
        """The tasks in the order of the stages, if each stage trains one task and none comes twice; else empty."""
        tasks = [task for stage in self.stages for task, weight in stage.tasks.items() if weight > 0]
        return tuple(tasks) if len(set(tasks)) == len(tasks) == len(self.stages) else ()


@dataclass(frozen=True)
class Method:
    """The runs of one method, over its seeds.

    Args:
        name: Its name in the report.
        scores: Of each score, its value by seed.
        prompts: Of each score, the scores of its prompts by seed.
        paper: Column of the paper's tables that it repeats.
        runs: The runs behind it.
    """

    name: str
    scores: Mapping[str, Mapping[int, float]]
    prompts: Mapping[str, Mapping[int, ByPrompt]]
    paper: str | None = None
    runs: tuple[RunResult, ...] = ()

    def values(self, score: str) -> list[float]:
        """A score's values, one per seed."""
        return list(self.scores.get(score, {}).values())

    def parts(self, score: str) -> list[str]:
        """The scores whose plain mean a score is: the benchmarks of a domain's mean ``math/*``, else itself."""
        domain, _, rest = score.partition("/")
        if rest != "*":
            return [score]
        own = (name for name in self.scores if name.startswith(f"{domain}/") and name.count("/") == 1)
        parts = sorted(name for name in own if name not in (score, f"{domain}/greedy"))
        for seed, value in self.scores.get(score, {}).items():
            found = [self.scores[part][seed] for part in parts if seed in self.scores[part]]
            if not parts or len(found) < len(parts) or abs(fmean(found) - value) > _ROUNDING:
                return [score]  # the mean of others, of which nothing is known
        return parts

    @property
    def order(self) -> tuple[str, ...]:
        """The order of its single-task stages; empty if it has none."""
        return next((run.order for run in self.runs if run.order), ())


@dataclass(frozen=True)
class StudyResults:
    """A study.

    Args:
        name: Its name.
        methods: The base model first, then the methods in the order of the study.
        seeds: The seeds that the study asks for.
        missing: Runs that have not finished, such as ``joint/1``.
    """

    name: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    missing: tuple[str, ...] = ()

    @property
    def base(self) -> Method:
        """The base model."""
        return self.methods[0]

    @property
    def trained(self) -> tuple[Method, ...]:
        """All methods but the base model."""
        return self.methods[1:]

    @property
    def tasks(self) -> list[str]:
        """Tasks or domains that have a score, in the order of the base model's, then of the others'."""
        names = [name.partition("/")[0] for method in self.methods for name in method.scores]
        return [name for name in dict.fromkeys(names) if not name.endswith(LETTER)]

    @property
    def single(self) -> dict[str, Method]:
        """The methods that train one task alone, by task; the first where there are several."""
        found: dict[str, Method] = {}
        for method in self.trained:
            if len(method.order) == 1:
                found.setdefault(method.order[0], method)
        return found

    def domain_score(self) -> dict[str, str]:
        """The score that stands for each task: the one of the same kind that all methods have.

        The mean of its benchmarks if there is one everywhere, else the score sampled at temperature 1, else the
        greedy one. Methods without any score do not count.
        """
        for kind in ("{}/*", "{}", "{}/greedy"):
            chosen = {task: kind.format(task) for task in self.tasks}
            if all(set(chosen.values()) <= set(method.scores) for method in self.methods):
                return chosen
        return {task: task for task in self.tasks if task in self.base.scores}


def gather(name: str, runs: Sequence[RunResult], seeds: Sequence[int], missing: Sequence[str]) -> StudyResults:
    """Put the runs together by method, and what they all started from as the base model.

    Args:
        name: Of the study.
        runs: Its finished runs, in the order of the study.
        seeds: The seeds that it asks for.
        missing: Runs that have not finished.
    """
    trained: dict[str, list[RunResult]] = {}
    for run in runs:
        trained.setdefault(run.method, []).append(run)
    trained.pop("", None)
    base = _base([run for run in runs if run.method], trained.pop(BASE, []))
    methods = [_on_the_same(_method(name, own), base) for name, own in trained.items() if any(r.scores for r in own)]
    return StudyResults(name, (base, *methods), tuple(seeds), tuple(missing))


def _method(name: str, runs: Sequence[RunResult]) -> Method:
    scores: dict[str, dict[int, float]] = {}
    prompts: dict[str, dict[int, ByPrompt]] = {}
    for run in runs:
        for score, value in run.scores.items():
            scores.setdefault(score, {})[run.seed] = value
        for score, by_prompt in run.prompts.items():
            prompts.setdefault(score, {})[run.seed] = by_prompt
    paper = next((run.paper for run in runs if run.paper), None)
    return Method(name, scores, prompts, paper, tuple(runs))


def _on_the_same(method: Method, base: Method) -> Method:
    """The method on the prompts that the base model answered, where it answered more, as ``validate`` does."""
    scores, prompts = dict(method.scores), dict(method.prompts)
    for score, by_seed in method.prompts.items():
        known = {uid for of_seed in base.prompts.get(score, {}).values() for uid in of_seed}
        if not all(known & set(of_seed) for of_seed in by_seed.values()):
            continue
        kept = {seed: {uid: own[uid] for uid in own if uid in known} for seed, own in by_seed.items()}
        prompts[score] = kept
        if any(len(kept[seed]) < len(by_seed[seed]) for seed in kept):
            scores[score] = {seed: fmean(own.values()) for seed, own in kept.items()}
    for score in method.scores:
        parts = method.parts(score)
        if any(scores[part] is not method.scores[part] for part in parts if part != score):
            scores[score] = {seed: fmean(scores[part][seed] for part in parts) for seed in scores[score]}
    return replace(method, scores=scores, prompts=prompts)


def _base(runs: Sequence[RunResult], own: Sequence[RunResult]) -> Method:
    """The base model: what fits measured before training (of one seed all the same), and runs named ``base``."""
    values: dict[str, dict[int, list[float]]] = {}
    prompts: dict[str, dict[int, ByPrompt]] = {}
    for run in runs:
        for score, value in run.base.items():
            values.setdefault(score, {}).setdefault(run.seed, []).append(value)
        for score, by_prompt in run.base_prompts.items():
            prompts.setdefault(score, {}).setdefault(run.seed, by_prompt)
    scores = {score: {seed: fmean(found) for seed, found in by_seed.items()} for score, by_seed in values.items()}
    evaluated = _method(BASE, own)
    return Method(BASE, {**scores, **evaluated.scores}, {**prompts, **evaluated.prompts}, BASE, tuple(own))
