"""The paper's figures, made from a study's runs."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from omnithink_pl.report.bars import grouped_bars
from omnithink_pl.report.estimates import Estimate, difference, has, mean_score
from omnithink_pl.report.panels import difference_panels
from omnithink_pl.report.paper.tables import answer_formats
from omnithink_pl.report.results import LETTER, StudyResults
from omnithink_pl.report.study_tables import interval_note, measure_note, sample_note
from omnithink_pl.report.transfer_tables import SIGN, backward_transfer, best_interval


def gains_figure(study: StudyResults) -> Figure:
    """Figure 1: what each method gained over the base model, by task."""
    domain = study.domain_score()
    groups = {**{task: [score] for task, score in domain.items()}, "mean": list(domain.values())}
    bars: dict[str, list[Estimate | None]] = {
        method.name: [
            best_interval(difference(method, study.base, scores)) if has(method, scores) else None
            for scores in groups.values()
        ]
        for method in study.trained
    }
    note = f"{measure_note(study)} Lines: 95 % interval over prompts of these runs (paired bootstrap)."
    return difference_panels(
        list(groups),
        bars,
        title="Figure 1: gain over the base model by task and method",
        unit="points above the base model (below 0: forgotten)",
        note=wrap(note, 130),
    )


def format_scores(study: StudyResults) -> tuple[str, str] | None:
    """The names of the same questions answered in full and with a letter; ``None`` if a study has no such pair."""
    names = sorted({name for method in study.trained for name in method.scores})
    for name in names:
        domain, _, benchmark = name.partition("/")
        stem = benchmark.removesuffix(LETTER)
        texts = [f"{domain.removesuffix(LETTER)}/{text}" for text in (stem, f"{stem}_text")]
        found = [text for text in texts if text in names]
        if domain.endswith(LETTER) and found:
            return found[0], name
    return None


def format_figure(study: StudyResults) -> Figure | None:
    """Figure 2: the same questions answered in full and with a letter; ``None`` if a study has no such runs."""
    names = format_scores(study)
    if names is None:
        return None
    methods = [method for method in study.methods if has(method, [names[0]]) and has(method, [names[1]])]
    bars: dict[str, list[Estimate | None]] = {
        method.name: [mean_score(method, [name]) for name in names] for method in methods
    }
    prompts = max((len(own) for method in methods for own in method.prompts.get(names[0], {}).values()), default=0)
    note = f"Lines: {interval_note(study).removeprefix('In brackets: ')}"
    note = f"The same {prompts} questions in both forms. {note}" if prompts else note
    if names[0] == "qa/mmlu_pro":
        printed = {key: f"{100 * value:.1f}" for key, value in answer_formats().items()}
        note += (
            f" The paper prints, trained on full text: {printed['text', 'text']} and {printed['text', 'letters']}; "
            f"trained on letters: {printed['letters', 'text']} and {printed['letters', 'letters']}."
        )
    return grouped_bars(
        ["answered in full", "answered with a letter"],
        bars,
        title=f"Figure 2: form of the answer, {names[0]}",
        unit="score in percent",
        note=wrap(note),
        differences=False,
    )


def transfer_figure(study: StudyResults) -> Figure | None:
    """Figure 3: mean change on the other tasks by the task trained; ``None`` without single-task runs."""
    found = backward_transfer(study)
    if not found:
        return None
    return grouped_bars(
        list(found),
        {"change": [best_interval(one) for one in found.values()]},
        title="Figure 3: mean change on the other tasks, by the task trained",
        unit="after − base in points\n← forgotten      gained →",
        note=wrap(
            f"{SIGN} The sign of the paper's Figure 3; its equation BWT = base − after has the opposite one. Lines: "
            f"95 % interval over prompts of these runs (paired bootstrap); {sample_note(study)}."
        ),
        differences=True,
        digits=1,
    )


def wrap(text: str, width: int = 100) -> str:
    """A note in lines that fit below a figure."""
    return "\n".join(textwrap.wrap(text, width))
