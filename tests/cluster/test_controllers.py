"""A second controller is a registration, and a stage a row: tried on a real control plane.

The run loop of the operator, in this process, with a controller that only tests know beside the one
of FineTuneJobs.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kubernetes.aio import client, config

from attempts import SETTINGS
from cluster import Cluster
from counting import WANTED, WITH_COUNT
from manifests import a_version
from operator_process import a_job
from stage_pods import run_pods
from tunesmith_api.base import GROUP, VERSION
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_operator.controller.child_cache import ChildCache, ChildWatch
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.health import Health
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.runner import Options, run_controllers
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.controller import finetunejob_controller
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.client import ApiServer
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER
from tunesmith_operator.kube.resources import CONFIG_MAP, Resource

T = TypeVar("T")
MODEL_VERSION = Resource("ModelVersion", GROUP, VERSION, "modelversions")
OF_VERSION = "tests.tunesmith.dev/version"


class Versions:
    """A controller of ModelVersions that writes down what it was to look at, and what was there."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.seen: list[tuple[Key, str | None]] = []
        self.controller = Controller(
            MODEL_VERSION,
            self.reconcile,
            children=ChildCache([ChildWatch(CONFIG_MAP, OF_VERSION)]),
        )

    async def reconcile(self, key: Key) -> float | None:
        cached = await self.controller.objects.read(self._server, key)
        scheme: str | None = None if cached is None else cached.manifest["spec"]["scheme"]
        self.seen.append((key, scheme))
        return None


Looks = dict[str, float]


def run_beside(cluster: Cluster, play: Callable[[Versions], T]) -> tuple[T, Looks]:
    """What comes of `play`, in a thread of its own, while both controllers run.

    And how many looks of each controller were no failure.
    """
    options = Options(
        namespaces=(cluster.namespace,),
        workers=4,
        metrics_port=0,
        health_port=0,
        component="none",
        lease_name="none",
        lease_namespace=None,
    )

    async def run() -> tuple[T, Looks]:
        await config.load_kube_config()  # type: ignore[no-untyped-call]
        metrics, stop = Metrics(), asyncio.Event()
        async with client.ApiClient() as api:
            server = ApiServer(api, [FINE_TUNE_JOB, MODEL_VERSION])
            versions = Versions(server)
            recorder = EventRecorder(server)
            jobs = finetunejob_controller(server, SETTINGS, recorder, catalog=WITH_COUNT)
            running = asyncio.create_task(
                run_controllers(
                    [jobs, versions.controller],
                    server,
                    recorder,
                    options,
                    stop=stop,
                    metrics=metrics,
                    health=Health(),
                )
            )
            played = asyncio.create_task(asyncio.to_thread(play, versions))
            await asyncio.wait({running, played}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return await played, _looks(metrics)

    return asyncio.run(run())


def _looks(metrics: Metrics) -> Looks:
    looks: Looks = {}
    for metric in metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "controller_runtime_reconcile_total":
                assert sample.labels["result"] != "error"
                name = sample.labels["controller"]
                looks[name] = looks.get(name, 0) + sample.value
    return looks


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def a_map(version: dict[str, Any]) -> str:
    """A child of the version, as its controller could have made it."""
    labels = {MANAGED_BY: MANAGER, OF_VERSION: version["metadata"]["name"]}
    metadata = {"name": "of-version", "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def test_a_second_controller_runs_in_the_same_loop_and_hears_of_its_objects_and_children(
    cluster: Cluster,
) -> None:
    version = a_version()
    key = Key("ModelVersion", cluster.namespace, version["metadata"]["name"])

    def play(versions: Versions) -> list[tuple[Key, str | None]]:
        cluster.create(version).raise_for_status()
        cluster.create(a_job()).raise_for_status()
        wait_until(lambda: bool(versions.seen))
        of_the_object = len(versions.seen)
        cluster.kubectl("create", "--filename=-", stdin=a_map(version))
        wait_until(lambda: len(versions.seen) > of_the_object)
        phase = "--for=jsonpath={.status.phase}=Preparing"
        cluster.kubectl("wait", "ftj/helpdesk", phase, "--timeout=60s")
        return list(versions.seen)

    seen, looks = run_beside(cluster, play)

    assert set(seen) == {(key, "W8A8")}
    assert looks["modelversion"] >= 2


def test_a_stage_that_is_one_row_more_is_run_in_a_pod_of_its_own(cluster: Cluster) -> None:
    spec: dict[str, Any] = {**WANTED}

    def play(_: Versions) -> list[str]:
        cluster.create(a_job(**spec)).raise_for_status()
        return run_pods(cluster, "helpdesk", timeout_s=120)

    ran, _ = run_beside(cluster, play)
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    asked = FineTuneJobSpec.model_validate(a_job(**spec)["spec"])
    assert ran == [f"{stage.name}-1" for stage in WITH_COUNT.applying(asked)]
    assert status["phase"] == "Succeeded"
    assert {"type": "Counted", "status": "True"}.items() <= next(
        condition for condition in status["conditions"] if condition["type"] == "Counted"
    ).items()
