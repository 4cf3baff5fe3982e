"""Groups that are carried from step to step survive a checkpoint, whichever number of processes goes on with them."""

from __future__ import annotations

from pathlib import Path

from tests.distributed.ranks import DDP, KEPT, checkpoint, run
from tests.distributed.test_ranks import EQUAL, from_the_middle, largest_difference

SEGMENTS = [
    "--data.batch_size=8",
    "--model.sampling.temperature=1.2",
    "--model.rollouts.segment_tokens=15",  # some groups have ended by then, others have not
    "--evaluation.evaluator.prompts=1",
]


def test_one_process_in_one_go_or_two_and_two_processes_for_the_rest(tmp_path: Path) -> None:
    one, resumed, joined = (tmp_path / name for name in ("one", "resumed", "joined"))
    assert run(one, *SEGMENTS, KEPT) == [0]
    from_the_middle(one, resumed)
    carried = checkpoint(resumed)["rollouts"]["partial"]
    assert [entry["step"] for entry in carried] == [2], "there is something to go on with"
    assert run(resumed, *SEGMENTS, "--ckpt_path=last") == [0]
    assert largest_difference(resumed, one) == 0
    from_the_middle(one, joined)
    assert run(joined, *SEGMENTS, *DDP, "--ckpt_path=last", ranks=2) == [0, 0]
    assert largest_difference(joined, one) < EQUAL
    assert checkpoint(joined)["rollouts"]["partial"] == [], "a stage ends what it has begun"
