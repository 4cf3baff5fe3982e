"""Our trainer on a batch of given shape, with nothing but the step."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import lightning as L
import torch

from benchmarks.harness import Lap
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data import MultiTaskData
from omnithink_pl.embedded import EmbeddedMath
from omnithink_pl.grpo.collection import RolloutSettings
from omnithink_pl.grpo.kl_control import KLSettings
from omnithink_pl.grpo.objective import ImportanceCorrection
from omnithink_pl.model.policy import Policy, load_policy
from omnithink_pl.modules import MultiTaskGRPO
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rollout import RolloutEngine, Sampling, TransformersEngine
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Group, Outcome


@dataclass(frozen=True)
class Shape:
    """Shape of a step, and number of steps."""

    policy: str  # a directory, or a hub id
    prompts: int  # per step
    group: int  # completions per prompt
    max_tokens: int  # of a completion
    steps: int
    data: str | None = None  # JSON Lines file of questions; the packaged problems if not given
    worked: int = 0  # its first rows, which are shown with their answers before each question

    def task(self) -> Task:
        """Return the task whose training rows are the prompts."""
        return Arithmetic(self.prompts, Rows(self.data, self.prompts, self.worked) if self.data else None)

    def examples(self) -> list[Example]:
        """Return the prompts, the same in every step."""
        return self.task().examples("train", 0)


@contextmanager
def saved_for(policy: str, max_tokens: int) -> Iterator[str]:
    """Yield a directory with a copy of a policy whose context has room for more than ``max_tokens``.

    That may be longer than the context it was made for: what it says is of no interest.
    """
    loaded = load_policy(policy)
    loaded.model.config.max_position_embeddings = max(loaded.context, 2 * max_tokens + 1024)
    with TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        yield folder


@final
class Alternating(Reward):
    """A reward that costs nothing and differs within every group: a group without a signal is not trained on."""

    name = "alternating"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return 0 and 1 in turn."""
        return [[Outcome.of(index % 2) for index in range(len(group.completions))] for group in groups]


@final
class FewProblems(Source):
    """The first ``count`` of the packaged math problems."""

    def __init__(self, count: int) -> None:
        self.count = count

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same in every split."""
        return EmbeddedMath().examples(task, "train")[: self.count]


@final
class Rows(Source):
    """Questions of a file, behind worked examples from its first rows.

    Args:
        path: JSON Lines in the form of GSM8K: ``{"question": "...", "answer": "..."}``.
        count: Number of questions.
        worked: Number of worked examples.
    """

    def __init__(self, path: str, count: int, worked: int) -> None:
        self.path, self.count, self.worked = path, count, worked

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same in every split."""
        with Path(self.path).open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, self.worked + self.count)]
        shown = "".join(f"{row['question']}\n{row['answer']}\n\n" for row in rows[: self.worked])
        return [
            Example(task, text_uid(row["question"]), shown + row["question"], row["answer"])
            for row in rows[self.worked :]
        ]


@final
class Arithmetic(Task):
    """Math problems with the reward above; the packaged ones if no source is given."""

    name = "math"
    metric = "alternating"

    def __init__(self, prompts: int, source: Source | None = None) -> None:
        super().__init__(source or FewProblems(prompts), Alternating())

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the question itself."""
        return example.question


class OneStage(L.Callback):
    """Train one stage, without any evaluation, and call ``lap`` at the end of each step."""

    def __init__(self, stage: Stage, lap: Callable[[], None] = lambda: None) -> None:
        self.stage, self.lap = stage, lap

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the length of the loader."""
        trainer.datamodule.total_steps = self.stage.steps  # type: ignore[attr-defined]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter the stage."""
        trainer.datamodule.enter(self.stage, self.stage.steps)  # type: ignore[attr-defined]
        pl_module.on_stage_start(StageRun((self.stage,), 1))  # type: ignore[operator]

    def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
        """The end of a step."""
        self.lap()


def train(
    shape: Shape,
    lap: Lap,
    engine: RolloutEngine | None = None,
    prepare: Callable[[Policy], object] | None = None,
    rollouts: RolloutSettings = RolloutSettings(),  # noqa: B008  (frozen)
    ranks: int = 1,
) -> None:
    """Run the whole training loop without a KL penalty, as one of ``ranks`` processes that share each batch.

    ``prepare`` is called with the policy before the first step, ``lap`` after each step.
    """
    data = MultiTaskData({"math": shape.task()}, batch_size=shape.prompts)
    module = MultiTaskGRPO(
        engine=engine or TransformersEngine(),
        tasks=data.tasks,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-6, fused=True),
        policy=shape.policy,
        sampling=Sampling(shape.group, max_tokens=shape.max_tokens),
        kl=KLSettings({"math": 0.0}),
        rollouts=replace(rollouts, correction=ImportanceCorrection(alarm=1e6)),
    )
    module.check_agreement = lambda *_: None  # type: ignore[method-assign]  # forced lengths are not the policy's
    module.configure_model()
    if prepare is not None:
        prepare(module.policy)
    trainer = L.Trainer(
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=1,
        logger=False,
        callbacks=[OneStage(Stage({"math": 1.0}, shape.steps), lap)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
