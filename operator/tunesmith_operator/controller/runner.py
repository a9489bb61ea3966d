"""The operator as a program: watch, queue, work; one replica at a time.

Whoever holds the Lease runs kopf, as the informer, and the workers; the others wait. A leader that
loses the Lease ends, and is started again by its Deployment.
"""

import asyncio
import logging
import signal
import time
import uuid
from pathlib import Path
from typing import Final
from urllib.request import getproxies

import kopf
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.leaderelection import electionconfig, leaderelection

from tunesmith_operator.controller.child_cache import Children
from tunesmith_operator.controller.endpoints import serving
from tunesmith_operator.controller.event_router import (
    CHILDREN,
    RAYJOBS,
    News,
    kopf_settings,
    registry_of,
)
from tunesmith_operator.controller.failures import log_failure
from tunesmith_operator.controller.health import Health
from tunesmith_operator.controller.leader_election import (
    DURATION_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    Lease,
)
from tunesmith_operator.controller.metrics import Measures
from tunesmith_operator.controller.object_cache import Jobs
from tunesmith_operator.controller.work_queue import WorkQueue
from tunesmith_operator.finetunejob.reconciler import Reconciler
from tunesmith_operator.kube.client import ApiCluster, Cluster
from tunesmith_operator.settings import LEASE_NAME, Settings

_LOG = logging.getLogger(__name__)

_ABSENT_S: Final = 10
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFINED_S: Final = 30.0


def main(settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        SystemExit: the Lease was lost, or a watch has failed for good.
    """
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    # It tells of every event that was handed on.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    await _load_config()
    measures = Measures()
    health = Health()
    async with client.ApiClient(_configuration()) as api, serving(settings, measures, health):
        led = asyncio.create_task(_lead(api, settings, stop=stop, measures=measures, health=health))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({led, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await led
            raise SystemExit("the Lease was lost; ending, to be started again")
        led.cancel()
        await asyncio.gather(led, return_exceptions=True)


async def _load_config() -> None:
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]


def _configuration() -> client.Configuration:
    """The settings of the client; the environment is only asked for proxies if it names some.

    Otherwise every request would look for a .netrc file, in a thread.
    """
    found = client.Configuration.get_default_copy()
    found.client_session_kwargs = {"trust_env": bool(getproxies())}
    return found


async def _lead(
    api: client.ApiClient,
    settings: Settings,
    *,
    stop: asyncio.Event,
    measures: Measures,
    health: Health,
) -> None:
    """Wait for the Lease, and work for as long as it is held."""
    working: list[asyncio.Task[None]] = []

    async def begin() -> None:
        measures.leading.labels(name=LEASE_NAME).set(1)
        work = _work(ApiCluster(api), settings, stop=stop, measures=measures, health=health)
        working.append(asyncio.create_task(work))
        await working[0]

    async def end() -> None:
        measures.leading.labels(name=LEASE_NAME).set(0)

    lock = Lease(LEASE_NAME, _lease_namespace(settings), str(uuid.uuid4()), api)
    election = leaderelection.LeaderElection(
        electionconfig.Config(
            lock,
            lease_duration=DURATION_S,
            renew_deadline=RENEW_DEADLINE_S,
            retry_period=RETRY_S,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
    )
    elected = asyncio.create_task(election.run())
    try:
        while not lock.is_overdue() and not any(each.done() for each in (elected, *working)):
            await asyncio.wait({elected, *working}, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        for each in (*working, elected):
            if each.done():
                await each
    finally:
        for each in (elected, *working):
            each.cancel()
        await asyncio.gather(elected, *working, return_exceptions=True)


def _lease_namespace(settings: Settings) -> str:
    if settings.lease_namespace:
        return settings.lease_namespace
    return _POD_NAMESPACE.read_text(encoding="utf-8") if _POD_NAMESPACE.exists() else "default"


async def _work(
    cluster: ApiCluster,
    settings: Settings,
    *,
    stop: asyncio.Event,
    measures: Measures,
    health: Health,
) -> None:
    """Watch and work until cancelled."""
    queue = WorkQueue(waited=measures.waited.labels(name=measures.controller).observe)
    measures.follow(queue)
    health.queue = queue
    jobs, children = Jobs(), Children()
    news = News(queue, measures, jobs=jobs, children=children)
    reconciler = Reconciler(cluster, settings, jobs=jobs, children=children)
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(news, cluster, settings, stop=stop))
        for _ in range(settings.workers):
            group.create_task(_worker(queue, news, reconciler, measures))


async def _watch(
    news: News, cluster: ApiCluster, settings: Settings, *, stop: asyncio.Event
) -> None:
    """Watch until told to stop; while the definition of jobs is not there, wait for it.

    RayJobs are watched for as long as they are defined: KubeRay may come and go.
    """
    while not stop.is_set():
        if not await cluster.serves("FineTuneJob"):
            _LOG.warning("FineTuneJobs are not defined here; looked for again in %d s", _ABSENT_S)
            await asyncio.sleep(_ABSENT_S)
            continue
        has_rayjobs = await cluster.serves("RayJob")
        children = (*CHILDREN, RAYJOBS) if has_rayjobs else CHILDREN
        changed = asyncio.create_task(_rayjobs_change(cluster, before=has_rayjobs))
        try:
            registry = registry_of(news, children)
            await _watch_once(registry, settings, stop=stop, changed=changed)
        except Exception:
            is_same = await cluster.serves("RayJob") == has_rayjobs
            if is_same and await cluster.serves("FineTuneJob"):
                raise
        finally:
            changed.cancel()


async def _rayjobs_change(cluster: Cluster, *, before: bool) -> None:
    """Return once RayJobs are defined that were not, or the other way round."""
    while True:
        await asyncio.sleep(_DEFINED_S)
        try:
            if await cluster.serves("RayJob") != before:
                return
        except (ApiException, OSError, TimeoutError) as error:
            _LOG.warning("whether RayJobs are defined was not to be learnt: %s", error)


async def _watch_once(
    registry: kopf.OperatorRegistry,
    settings: Settings,
    *,
    stop: asyncio.Event,
    changed: asyncio.Task[None],
) -> None:
    """Watch until told to stop, or until there is something else to watch."""
    ready, ended = asyncio.Event(), asyncio.Event()
    changed.add_done_callback(lambda _: ended.set())
    async with asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(_take_signals_back(ready, stop)),
            group.create_task(_set_after(stop, ended)),
        ]
        await kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            namespaces=settings.namespaces,
            clusterwide=not settings.namespaces,
            standalone=True,
            ready_flag=ready,
            stop_flag=ended,
        )
        for each in helpers:
            each.cancel()
    if not ended.is_set():
        raise RuntimeError("the watches have ended without being asked to")


async def _set_after(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    second.set()


async def _take_signals_back(ready: asyncio.Event, stop: asyncio.Event) -> None:
    """kopf takes the signals over as it starts, and then ends alike for a signal and a fault."""
    await ready.wait()
    _stop_on_signals(stop)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)


async def _worker(queue: WorkQueue, news: News, reconciler: Reconciler, measures: Measures) -> None:
    while True:
        key = await queue.take()
        started = time.monotonic()
        try:
            after_s = await reconciler.reconcile(key, heard=news.running(key))
        except Exception as error:  # noqa: BLE001 - one job's fault is not another's
            delay_s = queue.failed(key)
            log_failure(error, job="/".join(key), delay_s=delay_s)
            measures.retries.labels(name=measures.controller).inc()
            result = "error"
        else:
            queue.done(key)
            if after_s is not None:
                queue.add(key, after_s=after_s)
            result = "success" if after_s is None else "requeue_after"
        measures.reconciled(result, seconds=time.monotonic() - started)
