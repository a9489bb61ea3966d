"""The run loop: controllers run for as long as this replica leads.

Whoever holds the Lease runs the watches, which fill the queue, and the workers, which empty it; the
others wait. A leader that loses the Lease ends, and is started again by its Deployment.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import getproxies

from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException

from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.event_router import EventRouter
from tunesmith_operator.controller.health import Health, serve_http
from tunesmith_operator.controller.informer import stop_on_signals, watch
from tunesmith_operator.controller.leader_election import Lease, lead
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.kube.api_errors import CONFLICT, is_outage
from tunesmith_operator.kube.client import ApiServer, KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.resources import Resource

_LOG = logging.getLogger(__name__)

_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Build = Callable[[KubeClient, EventRecorder], Sequence[Controller]]


@dataclass(frozen=True, slots=True)
class Options:
    """How this process runs its controllers.

    `namespaces` are those whose objects they look at; none means all. `workers` is how many objects
    are looked at at the same time. `lease_name` is what replicas agree on a leader by, and
    `lease_namespace` where; None is the pod's own, or `default` outside a cluster. `component` is
    what the metric of leadership calls it.
    """

    namespaces: tuple[str, ...]
    workers: int
    metrics_port: int
    health_port: int
    component: str
    lease_name: str
    lease_namespace: str | None


def run(options: Options, *, resources: Iterable[Resource], build: Build) -> None:
    """Run the controllers of these resources until SIGTERM or Ctrl-C.

    Raises:
        SystemExit: the Lease was lost, the API server refuses our credentials, or a watch has
            failed for good.
    """
    asyncio.run(_run(options, resources, build))


async def _run(options: Options, resources: Iterable[Resource], build: Build) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    # It tells of every event that was handed on.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    metrics, health = Metrics(), Health()
    ports = serve_http(
        metrics, health, metrics_port=options.metrics_port, health_port=options.health_port
    )
    async with client.ApiClient(await read_configuration()) as api, ports:
        server = ApiServer(api, resources)

        async def work() -> None:
            # Made anew by each leader: what a cache was told before is of another time.
            recorder = EventRecorder(server)
            controllers = build(server, recorder)
            await run_controllers(
                controllers, server, recorder, options, stop=stop, metrics=metrics, health=health
            )

        leading = metrics.leading.labels(name=options.component)
        namespace = options.lease_namespace or "default"
        if not options.lease_namespace and _POD_NAMESPACE.exists():
            namespace = _POD_NAMESPACE.read_text(encoding="utf-8")
        lease = Lease(options.lease_name, namespace, str(uuid.uuid4()), api)
        led = asyncio.create_task(lead(lease, work, leading=leading))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({led, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await led
            is_refused = lease.is_refused()
            why = "the API server refuses our credentials" if is_refused else "the Lease was lost"
            raise SystemExit(f"{why}; ending, to be started again")
        led.cancel()
        await asyncio.gather(led, return_exceptions=True)


async def read_configuration() -> client.Configuration:
    """Where the API server is: the pod's own, or as KUBECONFIG says."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except ConfigException:
        try:
            await config.load_kube_config()  # type: ignore[no-untyped-call]
        except Exception as error:  # a file that is no kubeconfig leads to any of them
            said = str(error).partition("\n")[0]
            message = (
                f"error: neither in a pod nor by a kubeconfig that can be read ({said}); set "
                "KUBECONFIG to one, and try it with: kubectl get nodes"
            )
            raise SystemExit(message) from error
    configuration = client.Configuration.get_default_copy()
    # aiohttp is told to ask the environment for proxies only if that names some: it would look for
    # a .netrc file at every request, in a thread.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    return configuration


async def run_controllers(
    controllers: Sequence[Controller],
    client: KubeClient,
    recorder: EventRecorder,
    options: Options,
    *,
    stop: asyncio.Event,
    metrics: Metrics,
    health: Health,
) -> None:
    """Watch until told to stop, and work until cancelled."""
    queue = WorkQueue(waited=metrics.waited)
    metrics.follow(queue, [controller.kind for controller in controllers])
    for controller in controllers:
        health.documents |= controller.documents
        for collector in controller.collectors:
            metrics.registry.register(collector)
    health.queue = queue
    router = EventRouter(queue, metrics, controllers)
    # A task that fails takes the others with it, and the process then: what is left would be an
    # operator that looks well and hears nothing.
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(router, client, options.namespaces, stop=stop))
        group.create_task(recorder.run(is_busy=lambda: len(queue) > 0))
        for _ in range(options.workers):
            group.create_task(_work(queue, router.controllers, metrics))


async def _work(queue: WorkQueue, controllers: dict[str, Controller], metrics: Metrics) -> None:
    while True:
        key = await queue.take()
        started = time.monotonic()
        try:
            after_s = await controllers[key.kind].reconcile(key)
        except Exception as error:  # noqa: BLE001 - one object's fault is not another's
            log_failure(error, key=key, delay_s=queue.failed(key))
            result = "error"
        else:
            queue.done(key)
            if after_s is not None:
                queue.add(key, after_s=after_s)
            result = "success" if after_s is None else "requeue_after"
        metrics.reconciled(key, result, seconds=time.monotonic() - started)


def log_failure(error: Exception, *, key: Key, delay_s: float) -> None:
    """Log a look that failed: in one line where the API server is to blame, else with its origin.

    That somebody else was first, which every controller meets, is not worth a line.
    """
    if isinstance(error, ApiException) and error.status == CONFLICT:
        return
    if is_outage(error):
        said = " ".join(str(error).split()) or "no answer in time"
        _LOG.warning(
            "%s is looked at again in %.1f s: %s: %.300s", key, delay_s, type(error).__name__, said
        )
        return
    _LOG.error("%s is looked at again in %.1f s", key, delay_s, exc_info=error)
