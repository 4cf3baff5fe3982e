"""Benchmarks print their table and nothing else."""

from __future__ import annotations

import logging
import os
import warnings

import torch


def quiet(threads: int = 1) -> None:
    """Silence progress bars and advice of the libraries; errors still come through.

    Args:
        threads: CPU threads of torch.
    """
    torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "accelerate", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
