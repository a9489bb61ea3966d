"""`run_deployment`: the whole of `tunesmith deploy` but its words.

Lock the deployment, take over what runs of it, and then again and again: see, decide, store, make
it so. Kill it at any point: the same call goes on from there. `advance` alone decides.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.advance import advance
from tunesmith_engine.deployment.observations import Command, Decision, Observations, Route
from tunesmith_engine.local.deployment.analysis import Analysis
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder
from tunesmith_engine.local.deployment.monitoring import Monitoring
from tunesmith_engine.local.deployment.proxy import Proxy
from tunesmith_engine.local.deployment.replica_client import read_samples
from tunesmith_engine.local.deployment.replica_process import Launcher, Replica
from tunesmith_engine.local.deployment.replica_set import ReplicaSet
from tunesmith_engine.local.deployment.versions import VersionFolders
from tunesmith_engine.local.envoy.proxy import ProxyError
from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import lock_deployment
from tunesmith_engine.local.runner import StopEvent
from tunesmith_engine.monitoring.monitor import Detector
from tunesmith_engine.monitoring.prometheus import Prometheus
from tunesmith_engine.monitoring.query_reader import QueryReader
from tunesmith_engine.monitoring.traffic_drift import SketchDetector
from tunesmith_engine.rollout.merge import Page
from tunesmith_engine.rollout.queries import Reading
from tunesmith_engine.rollout.recording import Header
from tunesmith_engine.rollout.ring_page import MAX_PAGES
from tunesmith_engine.rollout.samples import Arm
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)

# Between two looks; one costs a request to each replica and three to the proxy.
POLL_S: Final = 1.0

_CANNOT_RETRAIN: Final = "retrain makes jobs in a cluster alone; run the next one yourself"

Watch = Callable[[ModelDeploymentStatus], None]


@dataclass(frozen=True, slots=True)
class _Trial:
    """The rollout that is recorded: of which candidate, since when by the monotonic clock."""

    revision: str
    since: datetime
    begin: float
    analysis: Analysis
    queries: QueryReader


def run_deployment(
    deployment: ModelDeployment,
    *,
    manifest_text: str,
    home: HomeFolder,
    proxy: Proxy,
    launcher: Launcher,
    watch: Watch,
    stop: StopEvent,
    prometheus: Prometheus | None = None,
    is_over: Callable[[ModelDeploymentStatus], bool] = lambda _: False,
    poll_s: float = POLL_S,
) -> ModelDeploymentStatus:
    """Serve the deployment until `stop` is set or `is_over`; return the status it has then.

    `watch` gets every new status. At the end running requests are answered, for
    `spec.rollout.drainSeconds` at most. However this ends, no process of the deployment is left,
    unless this one is killed: then the next call takes them over.

    Raises:
        DeploymentBusy: another process serves this deployment.
        LocalError: the proxy cannot be started.
    """
    # Replicas are found by their absolute paths in /proc.
    home = HomeFolder(home.root.resolve())
    home.make()
    folder = DeploymentFolder.of(home, deployment.metadata.name)
    with lock_deployment(folder.lock, deployment=deployment.metadata.name):
        generation = _generation(deployment, folder)
        write_atomically(folder.manifest, manifest_text)
        replicas = ReplicaSet(
            folder, launcher=launcher, drain_s=deployment.spec.rollout.drain_seconds
        )
        run = DeploymentRun(
            deployment,
            folder=folder,
            versions=VersionFolders(home, spec=deployment.spec),
            replicas=replicas,
            proxy=proxy,
            generation=generation,
            watch=watch,
            prometheus=prometheus,
            detector=SketchDetector(),
        )
        try:
            replicas.recover(folder.read_status())
            _start(proxy)
            status = run.step()
            while not stop.is_set() and not is_over(status):
                time.sleep(poll_s)
                status = run.step()
            run.drain(poll_s=poll_s)
        finally:
            run.close()
        return status


class DeploymentRun:
    """One step after the other; all that has to outlive it lies in the folder."""

    def __init__(
        self,
        deployment: ModelDeployment,
        *,
        folder: DeploymentFolder,
        versions: VersionFolders,
        replicas: ReplicaSet,
        proxy: Proxy,
        generation: int,
        watch: Watch,
        detector: Detector,
        prometheus: Prometheus | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = deployment.metadata.name
        self._prometheus = prometheus
        self._spec = deployment.spec
        self._folder = folder
        self._versions = versions
        self._replicas = replicas
        self._proxy = proxy
        self._generation = generation
        self._watch = watch
        self._clock = clock
        self._stored = folder.read_status()
        self._has_told = False
        self._trial: _Trial | None = None
        self._monitoring = Monitoring(folder.monitoring, deployment.spec, detector=detector)

    def step(self) -> ModelDeploymentStatus:
        """See, decide, store, make it so."""
        seen = self._observe()
        now = datetime.now(UTC)
        decision = advance(self._spec, self._stored, seen, generation=self._generation, now=now)
        # NB: stored before anything is done. One that is killed in between does it the next time.
        if decision.status != self._stored:
            self._folder.write_status(decision.status)
        if decision.status != self._stored or not self._has_told:
            self._stored, self._has_told = decision.status, True
            self._watch(decision.status)
        self._end_command(decision, seen.command)
        self._replicas.apply(decision.desired.revisions, in_use=seen.route.in_use)
        self._proxy.apply(decision.desired.route, self._replicas.ports())
        self._keep_trial(decision, now=now)
        return decision.status

    def drain(self, *, poll_s: float) -> None:
        """Take nothing new, have what runs answered, and end every replica."""
        self._proxy.apply(Route(), self._replicas.ports())
        while self._replicas.end_all():
            time.sleep(poll_s)
            self._replicas.observe()

    def close(self) -> None:
        """End everything at once."""
        if self._trial is not None:
            self._trial.analysis.close()
        self._monitoring.save()
        self._replicas.close()
        self._proxy.stop()

    def _observe(self) -> Observations:
        try:
            versions, versions_known = self._versions.read(), True
        except OSError as error:
            _LOG.warning("the versions of %s cannot be read: %s", self._spec.model, error)
            versions, versions_known = (), False
        replicas = self._replicas.observe()
        self._collect_samples()
        return Observations(
            versions=versions,
            versions_known=versions_known,
            replicas=replicas,
            route=self._proxy.observe(),
            verdict=self._trial.analysis.verdict if self._trial else None,
            command=self._folder.read_command(),
            monitored=self._monitoring.look(
                self._replicas.all_running, self._stored, now=datetime.now(UTC)
            ),
            cannot_retrain=_CANNOT_RETRAIN,
        )

    def _collect_samples(self) -> None:
        trial, stable = self._trial, self._stored and self._stored.stable
        if trial is None or not stable:
            return
        arms = {
            replica.name_of(revision): (replica, revision, arm)
            for revision, arm in (
                (stable.revision, Arm.STABLE),
                (trial.revision, Arm.CANDIDATE),
            )
            for replica in self._replicas.running(revision)
        }
        pages = [
            page
            for name, (replica, revision, arm) in arms.items()
            # One that does not answer would hold this loop up.
            if replica.is_reachable
            for page in self._pages(name, arm, trial, replica=replica, revision=revision)
        ]
        readings: list[Reading] = []
        if trial.queries.is_due(self._clock() - trial.begin):
            answers = trial.queries.answers()
            readings = trial.queries.readings(answers, now=self._clock() - trial.begin)
        now = self._clock() - trial.begin
        trial.analysis.add(pages, replicas=arms.keys(), now=now, readings=readings)

    def _pages(
        self, name: str, arm: Arm, trial: _Trial, *, replica: Replica, revision: str
    ) -> list[Page]:
        pages: list[Page] = []
        after = trial.analysis.after(name)
        adapter = revision if revision != replica.folder.revision else None
        while len(pages) < MAX_PAGES:
            page = read_samples(replica.port, after=after, adapter=adapter, clock=self._clock)
            if page is None:
                break
            pages.append(page.in_rollout(name, arm, begin=trial.begin))
            if page.is_last:
                break
            after = page.next
        return pages

    def _keep_trial(self, decision: Decision, *, now: datetime) -> None:
        """Record the rollout that the decision names, and no other."""
        candidate, stable = decision.status.candidate, decision.status.stable
        since = candidate.analysis_since if candidate else None
        is_same = self._trial is not None and (self._trial.revision, self._trial.since) == (
            decision.recording,
            since,
        )
        if is_same:
            return
        if self._trial is not None:
            self._trial.analysis.close()
            self._trial = None
        if decision.recording is None or candidate is None or stable is None or since is None:
            return
        path = self._folder.recordings / f"{decision.recording}-{since:%Y%m%dT%H%M%SZ}.jsonl"
        header = Header(
            tunesmith=version("tunesmith"),
            stable=stable.version,
            candidate=candidate.version,
            limits=self._spec.rollout.analysis,
        )
        # Anchored once: a clock that is set while it is judged moves no sample.
        begin = self._clock() - (now - since).total_seconds()
        queries = QueryReader.of(
            header.limits,
            prometheus=self._prometheus,
            arms={Arm.STABLE: stable, Arm.CANDIDATE: candidate},
            deployment=self._name,
        )
        analysis = Analysis(path, header)
        self._trial = _Trial(decision.recording, since, begin, analysis, queries)

    def _end_command(self, decision: Decision, command: Command | None) -> None:
        """Forget what was asked of a version that is no candidate any more."""
        candidate = decision.status.candidate
        if command is None or command.verb == "pause":
            return
        is_open = candidate is not None and candidate.version == command.version
        if not is_open and self._folder.read_command() == command:
            self._folder.write_command(None)


def _start(proxy: Proxy) -> None:
    try:
        proxy.start()
    except ProxyError as error:
        raise LocalError(Reason.PROXY_DOWN, str(error)) from error


def _generation(deployment: ModelDeployment, folder: DeploymentFolder) -> int:
    """Counts how often the spec has changed, as an API server does."""
    status, before = folder.read_status(), folder.read_deployment()
    generation = status.observed_generation if status else 0
    is_same = before is not None and before.spec == deployment.spec
    return generation if is_same and generation else generation + 1
