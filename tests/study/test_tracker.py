"""What of a study has been done, kept in a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from omnithink_pl.study.definition import Job
from omnithink_pl.study.tracker import StudyTracker
from omnithink_pl.tracking import TrackingError, TrackingLogger
from omnithink_pl.tracking.reader import find_study, search_runs

DEFINITION = {"name": "s", "seeds": [0], "runs": {}}


def job(seed: int = 0, fingerprint: str = "f") -> Job:
    return Job("joint", seed, "fit", (), Path("out"), fingerprint)


@pytest.fixture
def tracker(tracking_uri: str) -> StudyTracker:
    tracker = StudyTracker(tracking_uri, "omnithink", DEFINITION)
    tracker.begin()
    return tracker


def log_run(tracker: StudyTracker, of: Job, status: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As the process of a run does, which knows of the study from its environment alone."""
    for key, value in tracker.environment(of).items():
        monkeypatch.setenv(key, value)
    logger = TrackingLogger(tracking_uri=tracker.uri)
    logger.log_metrics({"a": 1.0}, 0)
    logger.experiment.set_terminated(logger.run_id, status)
    return logger.run_id


def test_a_run_becomes_a_child_by_its_environment_and_counts_if_finished_with_the_same_print_and_seed(
    tracker: StudyTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = log_run(tracker, job(), "KILLED", monkeypatch)
    tags = MlflowClient(tracker.uri).get_run(run_id).data.tags
    assert tags["mlflow.parentRunId"] == tracker.parent_id
    assert (tags["study.run"], tags["study.seed"], tags["study.fingerprint"]) == ("joint", "0", "f")
    assert (tracker.started(job()), tracker.finished(job())) == (True, False)
    log_run(tracker, job(), "FINISHED", monkeypatch)
    others = job(), job(seed=1), job(fingerprint="changed")
    assert [tracker.finished(one) for one in others] == [True, False, False]


def test_what_tracks_nothing_itself_is_recorded(tracker: StudyTracker) -> None:
    assert not tracker.started(job())
    tracker.record(job())
    assert tracker.finished(job())


def test_a_resumed_study_has_the_same_parent_and_an_unknown_one_is_named(tracker: StudyTracker) -> None:
    tracker.end("KILLED")
    again = StudyTracker(tracker.uri, "omnithink", DEFINITION)
    again.begin()
    client = MlflowClient(tracker.uri)
    assert client.get_run(tracker.parent_id).info.status == "RUNNING"
    assert again.parent_id == find_study(client, tracker.uri, "s").info.run_id == tracker.parent_id
    with pytest.raises(TrackingError, match=r"no study 't' at .*; it has \['s'\]"):
        find_study(client, tracker.uri, "t")


def test_looking_creates_nothing(tracking_uri: str) -> None:
    assert not StudyTracker(tracking_uri, "elsewhere", DEFINITION).finished(job())
    assert MlflowClient(tracking_uri).get_experiment_by_name("elsewhere") is None


def test_two_that_begin_at_once_agree_on_one_parent(tracking_uri: str) -> None:
    one, two = (StudyTracker(tracking_uri, "omnithink", DEFINITION) for _ in range(2))  # neither sees a parent yet
    one.begin()
    two.begin()
    assert one.parent_id == two.parent_id
    assert len(search_runs(MlflowClient(tracking_uri), ["1"], {"study.part": "parent"})) == 1
