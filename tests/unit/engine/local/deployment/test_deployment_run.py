"""The steps of `tunesmith deploy`: seen, decided, stored, made so; with doubles."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from laptop import MODEL, NAME, Laptop
from tunesmith_api.manifest import load_resource
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.observations import Command, Route, RouteState
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.local.deployment import replica_process, runner
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder, ReplicaFolder
from tunesmith_engine.local.deployment.replica_process import Launch
from tunesmith_engine.local.environments import stage_variables
from tunesmith_engine.local.envoy.proxy import ProxyError
from tunesmith_engine.local.errors import DeploymentBusy, LocalError
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import lock_deployment
from tunesmith_engine.local.process_table import find_processes


class InstantProxy:
    """Takes up every route at once; `routes` are all that it was given."""

    def __init__(self, *, error: str = "") -> None:
        self.routes: list[Route] = []
        self.is_stopped = False
        self._error = error

    def start(self) -> None:
        if self._error:
            raise ProxyError(self._error)

    def observe(self) -> RouteState:
        in_use = self.routes[-1] if self.routes else Route()
        return RouteState(in_use=in_use, endpoint="http://127.0.0.1:1/v1")

    def apply(self, route: Route, ports: Mapping[str, Sequence[int]]) -> None:
        assert set(route.weights) <= set(ports), "a route to a revision that nobody serves"
        self.routes.append(route)

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    made = Laptop.of(tmp_path)
    made.write_manifest()
    return made


@pytest.fixture
def proxy() -> InstantProxy:
    return InstantProxy()


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch, laptop: Laptop) -> Iterator[None]:
    monkeypatch.setattr(replica_process, "read_state", lambda port: _report(laptop, port))
    monkeypatch.setattr(replica_process, "start_draining", lambda _: None)
    monkeypatch.setattr(runner, "read_samples", lambda _, **__: None)
    yield
    assert find_processes(laptop.folder) == []


def test_the_first_version_gets_all_requests(laptop: Laptop, proxy: InstantProxy) -> None:
    laptop.publish("v1")

    status = _run(laptop, proxy, until="Serving")

    assert status.stable is not None
    assert status.stable.version == "v1"
    assert Route({status.stable.revision: 100}) in proxy.routes
    assert laptop.status()["phase"] == "Serving"


def test_at_the_end_nothing_is_routed_and_the_proxy_ends(
    laptop: Laptop, proxy: InstantProxy
) -> None:
    laptop.publish("v1")

    _run(laptop, proxy, until="Serving")

    assert proxy.routes[-1] == Route()
    assert proxy.is_stopped


def test_without_versions_it_waits_and_says_so(laptop: Laptop, proxy: InstantProxy) -> None:
    status = _run(laptop, proxy, until="Pending")

    assert "no version of the model helpdesk" in status.conditions[0].message


def test_the_next_run_goes_on_with_the_same_stable(laptop: Laptop, proxy: InstantProxy) -> None:
    laptop.publish("v1")
    first = _run(laptop, proxy, until="Serving")

    second = _run(laptop, InstantProxy(), until="Serving")

    assert second.stable == first.stable


def test_a_changed_manifest_is_a_new_generation(laptop: Laptop, proxy: InstantProxy) -> None:
    laptop.publish("v1")
    generations = []
    for replicas in (1, 1, 2):
        laptop.write_manifest(replicas=replicas)
        status = _run(laptop, InstantProxy(), until="Serving")
        generations.append(status.observed_generation)

    assert generations == [1, 1, 2]


def test_two_do_not_serve_one_deployment(laptop: Laptop, proxy: InstantProxy) -> None:
    with (
        lock_deployment(laptop.folder / "lock", deployment=NAME),
        pytest.raises(DeploymentBusy, match="deployment 'desk' is being served by process"),
    ):
        _run(laptop, proxy, until="Serving")


def test_a_proxy_that_does_not_start_is_told_at_once(laptop: Laptop) -> None:
    with pytest.raises(LocalError, match="port 8000 is taken"):
        _run(laptop, InstantProxy(error="port 8000 is taken"), until="Serving")


def test_a_decision_on_what_is_no_candidate_is_forgotten(
    laptop: Laptop, proxy: InstantProxy
) -> None:
    laptop.publish("v1")
    folder = DeploymentFolder(laptop.folder)
    folder.write_command(Command("abort", "v9"))

    _run(laptop, proxy, until="Serving")

    assert folder.read_command() is None


def test_a_pause_is_kept(laptop: Laptop, proxy: InstantProxy) -> None:
    folder = DeploymentFolder(laptop.folder)
    folder.write_command(Command("pause"))

    _run(laptop, proxy, until="Pending")

    assert folder.read_command() == Command("pause")


def test_each_new_status_is_told_once(laptop: Laptop, proxy: InstantProxy) -> None:
    laptop.publish("v1")
    told: list[ModelDeploymentStatus] = []

    _run(laptop, proxy, until="Serving", told=told)

    assert told == [status for number, status in enumerate(told) if status not in told[:number]]
    assert told[-1].phase == "Serving"


def _run(
    laptop: Laptop,
    proxy: InstantProxy,
    *,
    until: str,
    told: list[ModelDeploymentStatus] | None = None,
) -> ModelDeploymentStatus:
    text = laptop.manifest.read_text()
    return runner.run_deployment(
        load_resource(text, ModelDeployment),
        manifest_text=text,
        home=HomeFolder(laptop.home),
        proxy=proxy,
        launcher=lambda _, folder, *__: _launch(folder),
        watch=(told if told is not None else []).append,
        stop=threading.Event(),
        is_over=lambda status: status.phase == until,
        poll_s=0.01,
    )


def _launch(folder: ReplicaFolder) -> Launch:
    return Launch(["sleep", "60"], stage_variables({}, attempt=folder.path) | {"PATH": "/bin"})


def _report(laptop: Laptop, port: int) -> ReplicaReport | None:
    """Every engine is ready and idle, whichever revision it is of."""
    for folder in DeploymentFolder(laptop.folder.resolve()).started_replicas():
        record = folder.read()
        if record is not None and record.port == port:
            return ReplicaReport(
                revision=folder.revision,
                instance=MODEL,
                ready=True,
                draining=False,
                reason="Ready",
                message="",
                running=0,
                accepted=0,
                quiet_seconds=60.0,
            )
    return None
