"""While a tracking server is away training goes on, and everything arrives later: also in another process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from omnithink_pl.tracking import TrackingError, TrackingLogger
from omnithink_pl.tracking import store as store_module
from omnithink_pl.tracking.outbox import RETRY_AFTER, Entry, Outbox
from omnithink_pl.tracking.store import guard, outage

MINUTES_5 = 300.0
STEP = 4.0  # seconds


class Clock:
    """Time that passes when it is told to; ``then`` is called as soon as so much has passed."""

    def __init__(self) -> None:
        self.now, self.at, self.then = 0.0, float("inf"), lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.at:
            self.at = float("inf")
            self.then()


class Health(BaseHTTPRequestHandler):
    """Answers as a tracking server's address for probes does."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Print nothing."""


class Server:
    """A server on a port of its own, which can be stopped and started again."""

    def __init__(self) -> None:
        self.port = 0
        self._running: ThreadingHTTPServer | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._running = ThreadingHTTPServer(("127.0.0.1", self.port), Health)
        self.port = self._running.server_address[1]
        threading.Thread(target=self._running.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._running is not None:
            self._running.shutdown()
            self._running.server_close()
            self._running = None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store(tracking_uri: str, server: Server, clock: Clock) -> TrackingLogger:
    """A logger into a database that can be reached as long as the server can."""
    logger = TrackingLogger(tracking_uri=tracking_uri)
    logger.outbox = Outbox(server.uri, logger._deliver, clock, clock.sleep)
    return logger


def points(logger: TrackingLogger) -> list[tuple[int, float]]:
    """Read with MLflow alone."""
    history = MlflowClient(logger.tracking_uri).get_metric_history(logger.version, "reward")
    return sorted((point.step, point.value) for point in history)


def train(logger: TrackingLogger, clock: Clock, steps: range) -> None:
    for step in steps:
        clock.sleep(STEP)
        logger.log_metrics({"reward": step / 1000}, step)


EXPECTED = [(step, step / 1000) for step in range(1, 101)]


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_server_away_for_5_minutes_of_training_gets_everything(
    tracking_uri: str, server: Server, clock: Clock
) -> None:
    logger = store(tracking_uri, server, clock)
    train(logger, clock, range(1, 11))
    server.stop()
    train(logger, clock, range(11, 11 + int(MINUTES_5 / STEP)))
    logger.artifacts.text("a text", "eval/text.txt")
    logger.set_tags({"stages": "qa"})
    assert points(logger) == EXPECTED[:10], "nothing gets there meanwhile"
    assert [point for _, point in logger.history("reward")] == [value for _, value in EXPECTED[:85]]
    server.start()
    train(logger, clock, range(86, 101))
    assert points(logger) == EXPECTED
    run = MlflowClient(tracking_uri).get_run(logger.version)
    assert run.data.tags["stages"] == "qa"
    assert [file.path for file in logger.experiment.list_artifacts(logger.version, "eval")] == ["eval/text.txt"]


@pytest.mark.filterwarnings("ignore:.*is away")
def test_what_a_restarted_process_finds_in_its_checkpoint_arrives_once(
    tracking_uri: str, server: Server, clock: Clock
) -> None:
    """Killed 40 steps into the outage, 8 behind its checkpoint; the server has come back when it is resumed."""
    first = store(tracking_uri, server, clock)
    train(first, clock, range(1, 11))
    server.stop()
    train(first, clock, range(11, 43))
    checkpoint: dict[str, Any] = first.state_dict()
    train(first, clock, range(43, 51))
    server.start()
    again = store(tracking_uri, server, clock)
    again.load_state_dict(checkpoint)
    train(again, clock, range(43, 101))
    again.finalize("success")
    assert points(again) == EXPECTED
    assert MlflowClient(tracking_uri).get_run(again.version).info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_run_that_ends_meanwhile_waits_for_the_server(tracking_uri: str, server: Server, clock: Clock) -> None:
    logger = store(tracking_uri, server, clock)
    train(logger, clock, range(1, 51))
    server.stop()
    train(logger, clock, range(51, 101))
    clock.at, clock.then = clock.now + MINUTES_5, server.start
    logger.finalize("success")
    assert points(logger) == EXPECTED


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_run_does_not_wait_for_ever_and_its_checkpoint_has_what_is_missing(
    tracking_uri: str, server: Server, clock: Clock
) -> None:
    logger = store(tracking_uri, server, clock)
    train(logger, clock, range(1, 4))
    server.stop()
    train(logger, clock, range(4, 6))
    with pytest.raises(TrackingError, match=r"away for 600 seconds .*Nothing is lost.*--ckpt_path last"):
        logger.drain()
    assert [entry["step"] for entry in logger.state_dict()["pending"]] == [4, 5]


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_server_that_is_away_is_probed_a_few_times_a_minute_and_none_of_it_is_waited_for(clock: Clock) -> None:
    tries: list[float] = []

    def locked(entry: Entry) -> None:
        tries.append(clock.now)
        raise TrackingError("database is locked")

    outbox = Outbox("sqlite:///mlflow.db", locked, clock, clock.sleep)
    for step in range(100):
        clock.sleep(1.0)
        outbox.add({"kind": "metrics", "step": step})
    assert len(tries) == 100 / RETRY_AFTER // 1 + 1
    assert [entry["step"] for entry in outbox.entries] == list(range(100))


def test_a_store_that_refuses_an_entry_is_an_error_and_the_entry_waits(clock: Clock) -> None:
    full, taken = [True], []

    def deliver(entry: Entry) -> None:
        if full[0]:
            raise TrackingError("database or disk is full")
        taken.append(entry["step"])

    outbox = Outbox("sqlite:///mlflow.db", deliver, clock, clock.sleep)
    with pytest.raises(TrackingError, match="full"):
        outbox.add({"step": 1})
    full[0] = False
    outbox.add({"step": 2})
    assert taken == [1, 2]


@contextmanager
def answering(status: int) -> Iterator[Server]:
    made = Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Health, "status", status)
        yield made
    made.stop()


@pytest.mark.parametrize(("status", "away"), [(200, False), (401, False), (404, False), (502, True), (503, True)])
def test_a_gateway_without_its_server_is_an_outage_and_a_refusal_is_none(status: int, away: bool) -> None:
    with answering(status) as server:
        assert bool(outage(server.uri)) == away


class Mute(Health):
    """Answers probes; other requests are taken, and never answered."""

    def do_POST(self) -> None:
        self.server.hung.wait()


def logging_to(server: Server, clock: Clock) -> Outbox:
    client = MlflowClient(server.uri)

    def deliver(entry: Entry) -> None:
        with guard(server.uri, "log metrics"):
            client.log_metric("0" * 32, "reward", 1.0, step=entry["step"])

    return Outbox(server.uri, deliver, clock, clock.sleep)


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_server_that_dies_between_probe_and_request_is_away(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = logging_to(server, clock)

    def stop_behind(uri: str, timeout: float) -> str:
        reason = outage(uri, timeout)
        server.stop()
        return reason

    monkeypatch.setattr("omnithink_pl.tracking.outbox.outage", stop_behind)
    outbox.add({"step": 1})
    assert [entry["step"] for entry in outbox.entries] == [1]


@pytest.mark.filterwarnings("ignore:.*is away")
def test_a_server_that_answers_probes_alone_is_away_and_takes_a_fifth_of_the_time_at_most(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_module._REQUESTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("tests.tracking.test_outbox.Health", Mute)
    server = Server()
    server._running.hung = threading.Event()
    outbox = logging_to(server, clock)
    tries, deliver = [], outbox._deliver

    def slow(entry: Entry) -> None:
        tries.append(clock.now)
        clock.sleep(40.0)  # two requests of 20 seconds
        deliver(entry)

    outbox._deliver = slow
    try:
        outbox.add({"step": 1})
        clock.sleep(159.0)
        outbox.add({"step": 2})
        assert len(tries) == 1
        assert [entry["step"] for entry in outbox.entries] == [1, 2]
    finally:
        server._running.hung.set()
        server.stop()


def test_mlflows_requests_are_bounded_and_the_users_own_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.environment_variables as known

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with guard("http://somewhere", "log metrics"):
        assert known.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 77
        assert known.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1
        assert known.MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER.get() is False
        assert {name for name in store_module._REQUESTS if not hasattr(known, name)} == set()
    assert known.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 7
