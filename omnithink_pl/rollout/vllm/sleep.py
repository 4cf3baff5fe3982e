"""Releasing an engine's GPU memory between rollouts, and making sure that it comes back whole."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vllm import LLM

log = logging.getLogger(__name__)

PROBE = [5, 7, 11, 13]  # any tokens that every vocabulary has
# Waking copies bytes back, so only kernels that are not deterministic may move a log-probability.
TOLERANCE = 1e-2


class Sleep:
    """Level-1 sleep: weights to host memory, the key-value cache thrown away.

    Level 2, which throws the weights away too, has corrupted weights in several versions of vLLM and is not offered.
    After waking, the log-probabilities of a fixed prompt must be those from before. On a CPU all of this does nothing
    and says so once. On GPUs it is untested.

    Args:
        wanted: Sleep at all.
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._asleep = False
        self._said = False
        self._before: list[float] = []

    def sleep(self, llm: LLM) -> None:
        """Release the memory, if wanted and possible."""
        if not self.wanted:
            return
        if not torch.cuda.is_available():
            self._say("model.engine.init_args.sleep does nothing on a CPU: there is no GPU memory to release")
            return
        self._before = probe(llm)
        full = used_gib()
        llm.sleep(level=1)
        self._asleep = True
        self._say(f"vLLM sleeps between rollouts: {full:.1f} GiB of GPU memory in use before, {used_gib():.1f} during")

    def wake(self, llm: LLM) -> None:
        """Take the memory back.

        Raises:
            RuntimeError: If the engine has not come back as it was.
        """
        if not self._asleep:
            return
        asleep = used_gib()
        llm.wake_up()
        llm.reset_prefix_cache()
        self._asleep = False
        log.debug("vLLM awake: %.1f GiB of GPU memory in use during its sleep, %.1f after", asleep, used_gib())
        check_probe(self._before, probe(llm))

    def _say(self, message: str) -> None:
        if not self._said:
            log.info(message)
            self._said = True


def probe(llm: LLM) -> list[float]:
    """Log-probabilities of a fixed prompt's tokens under the engine's present weights."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    (output,) = llm.generate([{"prompt_token_ids": PROBE}], params, use_tqdm=False)
    rows = (output.prompt_logprobs or [])[1:]  # the first token is given
    return [row[token].logprob for token, row in zip(PROBE[1:], rows, strict=True) if row is not None]


def check_probe(before: list[float], after: list[float]) -> None:
    """Compare two probes.

    Raises:
        RuntimeError: If they differ.
    """
    moved = [abs(a - b) for a, b in zip(before, after, strict=True)]
    wrong = [difference for difference in moved if not difference <= TOLERANCE]  # also what is not a number
    if wrong:
        raise RuntimeError(
            f"after waking, its log-probabilities differ by {wrong[0]:.3g} nats from those before its sleep; set "
            f"model.engine.init_args.sleep=false"
        )


def used_gib() -> float:
    """GPU memory in use by all processes, GiB."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30
