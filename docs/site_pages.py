"""Adds to the documentation site what does not lie in docs/: pages of the root, configs, and the pages of the API."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
STATIC = ("configs/**/*.yaml", "LICENSE", "CITATION.cff")

# Title of each page of the API, and the modules whose docstrings it shows.
API: dict[str, tuple[str, ...]] = {
    "Modules": (
        "omnithink_pl.modules.mt_grpo",
        "omnithink_pl.modules.sft",
        "omnithink_pl.modules.rejection_sampling",
        "omnithink_pl.grpo.objective",
        "omnithink_pl.grpo.advantage",
        "omnithink_pl.grpo.kl_control",
        "omnithink_pl.grpo.overlong",
        "omnithink_pl.grpo.failures",
        "omnithink_pl.model.adapter",
        "omnithink_pl.model.memory",
    ),
    "Data": (
        "omnithink_pl.data.module",
        "omnithink_pl.data.samplers",
        "omnithink_pl.curriculum.stages",
        "omnithink_pl.curriculum.schedulers",
    ),
    "Tasks": tuple(f"omnithink_pl.tasks.{name}" for name in ("base", "code", "math", "qa", "writing", "custom")),
    "Sources": (
        *(f"omnithink_pl.sources.{name}" for name in ("base", "curated", "curation", "table", "code_r1", "mbpp")),
        *(f"omnithink_pl.sources.{name}" for name in ("openr1_math", "gsm8k", "supergpqa", "mmlu")),
        *(f"omnithink_pl.sources.{name}" for name in ("creative_writing", "gpteacher", "own_answers")),
    ),
    "Rewards": tuple(
        f"omnithink_pl.rewards.{name}"
        for name in ("base", "function", "scoring", "format", "code", "checker", "math", "qa", "writing")
    ),
    "Judges": (
        *(f"omnithink_pl.judge.{name}" for name in ("base", "pairwise", "endpoint", "logits", "model", "embedded")),
        "omnithink_pl.sandbox.base",
        "omnithink_pl.sandbox.hardened",
    ),
    "Rollout": (
        "omnithink_pl.rollout.base",
        "omnithink_pl.rollout.transformers",
        "omnithink_pl.rollout.vllm.engine",
        "omnithink_pl.rollout.agreement",
    ),
    "Evaluation": (
        "omnithink_pl.evaluation.evaluator",
        "omnithink_pl.curriculum.score_matrix",
        "omnithink_pl.evaluation.suites.base",
    ),
    "Callbacks": (
        "callbacks",
        *(f"callbacks.{name}" for name in ("curriculum", "stage_evaluation", "model_selection", "checkpoints")),
        *(f"callbacks.{name}" for name in ("model_card", "tracking", "progress", "learning_rate", "demonstrations")),
        *(f"callbacks.{name}" for name in ("lookups", "resume")),
    ),
    "Tracking": ("omnithink_pl.tracking.logger", "omnithink_pl.report.model_card"),
    "Types": ("omnithink_pl.types", "omnithink_pl.errors"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the files that pages link to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for path in (path for pattern in STATIC for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for title, modules in API.items():
        content = "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)])
        files.append(File.generated(config, f"api/{title.lower()}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their target lies in the site, such as ``../configs/live.yaml`` to ``configs/live.yaml``."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    markdown = re.sub(r"\]\((\.\./|docs/)", "](", markdown)
    return re.sub(rf"\]\(({'|'.join(map(re.escape, PAGES))})", lambda link: f"]({PAGES[link[1]]}", markdown)
