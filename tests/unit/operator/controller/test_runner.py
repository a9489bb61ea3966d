"""What workers make of keys, and what is logged of looks that fail."""

import asyncio
import logging
import time
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import ClientOSError, ServerDisconnectedError
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import incluster_config

from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.runner import _work, log_failure, read_configuration
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.kube.resources import Resource


class InAMinute(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "InAMinute":
        return cls.fromtimestamp(time.time() + 60, tz)


def throw(error: Exception) -> None:
    raise error


def logged(caplog: pytest.LogCaptureFixture, error: Exception) -> str:
    caplog.set_level(logging.DEBUG)
    try:
        throw(error)
    except Exception as caught:  # noqa: BLE001 - as the worker does
        log_failure(caught, key=Key("FineTuneJob", "ns", "job"), delay_s=2.0)
    return caplog.text


@pytest.mark.parametrize(
    "error",
    [
        ApiException(status=503, reason="GET /x: {\n  down\n}"),
        ApiException(status=429, reason="later"),
        ClientOSError(111, "Connect call failed"),
        ServerDisconnectedError(),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_an_outage_is_one_line(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    (line,) = logged(caplog, error).splitlines()

    assert "WARNING" in line
    assert "ns/job is looked at again in 2.0 s: " in line


@pytest.mark.parametrize("error", [ValueError("x"), ApiException(status=422, reason="invalid")])
def test_what_nobody_expected_is_logged_with_where_it_came_from(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    assert "Traceback" in logged(caplog, error)


def test_a_conflict_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, ApiException(status=409, reason="changed")) == ""


Samples = dict[tuple[str, frozenset[str]], float]


def worked(*keys: Key, controllers: list[Controller]) -> Samples:
    """The samples, by name and values of labels, once one worker has looked at all keys."""

    async def work() -> Samples:
        metrics = Metrics()
        queue = WorkQueue(waited=metrics.waited)
        metrics.follow(queue, [controller.kind for controller in controllers])
        by_kind = {controller.kind: controller for controller in controllers}
        worker = asyncio.create_task(_work(queue, by_kind, metrics))
        for key in keys:
            queue.add(key)
        while len(queue) or queue.work_times():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        worker.cancel()
        return {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for metric in metrics.registry.collect()
            for sample in metric.samples
        }

    return asyncio.run(work())


def a_controller(kind: str, seen: list[Key], *, error: Exception | None = None) -> Controller:
    """One whose first look fails with this error."""

    async def reconcile(key: Key) -> float | None:
        seen.append(key)
        if error is not None and len(seen) == 1:
            raise error
        return 60.0

    return Controller(Resource(kind, "tunesmith.dev", "v1", f"{kind.lower()}s"), reconcile)


def test_each_key_is_looked_at_by_the_controller_of_its_kind() -> None:
    jobs: list[Key] = []
    versions: list[Key] = []
    keys = [Key(kind, "ns", "a") for kind in ("FineTuneJob", "ModelVersion")]

    worked(
        *keys,
        controllers=[a_controller("FineTuneJob", jobs), a_controller("ModelVersion", versions)],
    )

    assert (jobs, versions) == ([keys[0]], [keys[1]])


def test_every_controller_has_series_of_its_own() -> None:
    fails = a_controller("ModelVersion", [], error=ApiException(status=409))
    samples = worked(
        Key("FineTuneJob", "ns", "a"),
        Key("ModelVersion", "ns", "a"),
        controllers=[a_controller("FineTuneJob", []), fails],
    )

    def sample(name: str, *labels: str) -> float | None:
        return samples.get((name, frozenset(labels)))

    total = "controller_runtime_reconcile_total"
    assert sample(total, "finetunejob", "requeue_after") == 1
    assert sample(total, "modelversion", "error") == 1
    assert sample("controller_runtime_reconcile_errors_total", "modelversion") == 1
    assert sample("controller_runtime_reconcile_errors_total", "finetunejob") is None
    assert sample("workqueue_retries_total", "modelversion") == 1
    assert sample("workqueue_queue_duration_seconds_count", "finetunejob") == 1
    assert sample("workqueue_depth", "finetunejob") == 0


def test_one_objects_fault_is_not_anothers() -> None:
    seen: list[Key] = []
    keys = [Key("FineTuneJob", "ns", name) for name in ("a", "b")]

    worked(*keys, controllers=[a_controller("FineTuneJob", seen, error=ApiException(status=409))])

    assert seen[:2] == keys


@pytest.mark.parametrize("text", [None, "", "a: [", "hello", "clusters: 3", "contexts: []"])
def test_a_kubeconfig_that_cannot_be_read_ends_with_words_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(SystemExit, match="error: neither in a pod nor by a kubeconfig"):
        asyncio.run(read_configuration())


def test_a_token_that_was_renewed_on_disk_is_taken_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet writes the pod's token anew long before the one before ends."""
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    # The library keeps what it was told for the whole process.
    monkeypatch.setattr(client.Configuration, "_default", None)

    async def sent() -> list[str | None]:
        configuration = await read_configuration()
        first = await configuration.get_api_key_with_prefix("BearerToken")
        token.write_text("second")
        monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=InAMinute))
        return [first, await configuration.get_api_key_with_prefix("BearerToken")]

    assert asyncio.run(sent()) == ["bearer first", "bearer second"]
