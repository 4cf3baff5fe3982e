"""A real pretrained model on vLLM: the engine is the trainer's model before an update and after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from main import CONFIGS
from tests.real.fit import STEPS, fit

pytestmark = pytest.mark.slow


def test_law_6_a_real_model_samples_as_it_is_trained(real_model: Path, tmp_path: Path, tracking_uri: str) -> None:
    engine = [f"--config={CONFIGS}/rollout/vllm.yaml", "--model.engine.init_args.max_context=1024"]
    model = fit(real_model, tmp_path, tracking_uri, *engine)
    assert type(model.engine).__name__ == "ColocatedVLLM"
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs(["1"])
    points = client.get_metric_history(run.info.run_id, "train/logprob_diff_max")
    assert [point.step for point in points] == list(range(1, STEPS + 1))
    assert max(point.value for point in points) <= 1e-3
