"""The card of a run's policy, and its way to the hub: a real fit, and what is refused before one."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from callbacks import PolicyCard
from callbacks.checkpoints import Checkpoints
from main import main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.hub import HubError
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer
from tests.model.upload_hub import TOKEN, upload_hub


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2 with httpx2
def test_a_fit_leaves_a_card_with_its_own_scores_and_pushes_it_with_the_policy(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--evaluation.evaluator.prompts=4", "--evaluation.evaluator.samples=1", "--data.batch_size=2"]
    stages = "--curriculum.stages=[{tasks: {math: 1}, steps: 1}, {tasks: {qa: 1}, steps: 1}]"
    places = [f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.init_args.tracking_uri={tracking_uri}"]
    with upload_hub(monkeypatch) as hub:
        cli = main(["fit", "--name=tiny", "--model_card.push_to_hub=me/mine", stages, *places, *small])
    assert cli is not None
    (folder,) = tmp_path.glob("tiny/*/policy")
    assert hub.files == {file.name: file.read_bytes() for file in folder.iterdir()}
    card = huggingface_hub.ModelCard(hub.files["README.md"].decode())
    scores = next(found for found in cli.trainer.callbacks if hasattr(found, "matrix")).matrix
    (line,) = [line for line in card.text.splitlines() if line.startswith("| after qa |")]
    shown = [float(cell.split()[0]) for cell in line.strip("| ").split("|")[1:-1]]
    assert shown == pytest.approx([100 * score.sampled for score in scores.rows[-1].values()], abs=0.05)
    assert "`embedded`, trained by `MultiTaskGRPO` in a run of the kind `tiny`" in card.text
    assert "* data of math: `EmbeddedMath`" in card.text
    assert f"pushed      {hub.url}/me/mine" in capsys.readouterr().out
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()], "the token is nobody's business"


@pytest.mark.parametrize(
    ("saves", "error", "message"),
    [(False, BadInput, "set checkpoints.save_policy to true"), (True, HubError, "no token of the hub is here")],
)
def test_what_cannot_be_pushed_is_refused_before_the_base_is_evaluated(
    saves: bool, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    measured = evaluation()
    saver = Checkpoints("tiny", save_policy=saves)
    fit = trainer(tmp_path, [measured, saver, PolicyCard("me/mine"), curriculum()], enable_progress_bar=False)
    with pytest.raises(error, match=message):
        fit.fit(CountingModule(), CountedData())
    assert not measured.matrix.rows
