"""Prometheus' view of a run: real HTTP, real parser, and no label but kinds of losses."""

import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from small_models import small_model
from small_runs import a_loop, a_train_config
from tunesmith_engine.stages.contracts import METRICS_PORT
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.metrics_exporter import TrainingMetrics, serve_metrics

TRAINING = {"method": "full", "batch": {"size": 8}, "maxSteps": 2, "evaluateEverySteps": 1}


def _port(monkeypatch: pytest.MonkeyPatch) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    monkeypatch.setenv(METRICS_PORT, str(port))
    return port


def _scraped(port: int) -> dict[str, Metric]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def _run(folder: Path, metrics: TrainingMetrics) -> History:
    config = a_train_config(training=TRAINING)
    return a_loop(small_model(), config=config, folder=folder, on_step=metrics).run()


def test_a_scrape_has_the_numbers_of_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, metrics = _port(monkeypatch), TrainingMetrics(is_first=True, planned_steps=2)

    with serve_metrics(metrics, address="127.0.0.1"):
        history = _run(tmp_path, metrics)
        scraped = _scraped(port)

    values = {name: family.samples[0].value for name, family in scraped.items()}
    assert values["tunesmith_train_step"] == values["tunesmith_train_planned_steps"] == 2
    assert values["tunesmith_train_tokens"] == history.tokens
    assert values["tunesmith_train_trained_tokens"] == history.trained_tokens
    assert values["tunesmith_train_padding_tokens"] == history.padding
    assert values["tunesmith_train_gradient_norm"] == history.numbers("gradNorm")[-1]
    assert "tunesmith_train_mfu_ratio" not in values
    losses = {
        sample.labels["kind"]: sample.value
        for sample in scraped["tunesmith_train_loss_nats"].samples
    }
    assert losses["heldOut"] == history.held_out_losses()[-1]
    assert {*losses} == {"train", "heldOut", "trainSample", "general"}
    names = {name for family in scraped.values() for s in family.samples for name in s.labels}
    assert names == {"kind"}


def test_another_worker_tells_of_its_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, metrics = _port(monkeypatch), TrainingMetrics(is_first=False, planned_steps=2)

    with serve_metrics(metrics, address="127.0.0.1"):
        _run(tmp_path, metrics)
        scraped = _scraped(port)

    assert set(scraped) == {"tunesmith_train_resident_memory_bytes"}


def test_a_port_that_is_taken_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv(METRICS_PORT, str(taken.getsockname()[1]))
        metrics = TrainingMetrics(is_first=True, planned_steps=2)
        with serve_metrics(metrics, address="127.0.0.1"):
            assert _run(tmp_path, metrics).step == 2

    assert "metrics are not served" in caplog.text
