"""The answer segment of a completion: what every primary reward looks at, and nothing else."""

from __future__ import annotations

NO_ANSWER = "no answer segment"
BAD_REFERENCE = "unusable reference"


def answer_segment(text: str) -> str | None:
    """What stands between ``<answer>`` and ``</answer>``, with its white space.

    The answer follows the thinking: where there is a ``</think>``, only the text after the last
    one is searched, so that a tag mentioned while thinking neither counts nor spoils the answer.
    Without any ``</think>`` the whole text is searched: broken thinking is the format reward's
    business.

    Args:
        text: A completion.

    Returns:
        The segment, or ``None`` unless exactly one opening tag is followed by exactly one closing
        tag; a completion that offers two answers has not chosen one.
    """
    tail = text.rpartition("</think>")[2]
    if tail.count("<answer>") != 1 or tail.count("</answer>") != 1:
        return None
    before, _, segment = tail.partition("<answer>")
    if "</answer>" in before:
        return None
    return segment.partition("</answer>")[0]


def extract_answer(text: str) -> str | None:
    """The answer segment without surrounding white space; see :func:`answer_segment`."""
    segment = answer_segment(text)
    return None if segment is None else segment.strip()
