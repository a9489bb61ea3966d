"""Killed after each of its writes, the operator brings a deployment to the same end."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from held_jobs import kept_running
from model_deployments import CANARY, GATEWAY, a_deployment, is_at_rest, publish
from mortal_operator import live_and_die
from operator_process import an_operator
from serving_cluster import ServingCluster


def test_killed_after_each_write_it_serves_and_changes_the_version_and_drops_nothing(
    serving: ServingCluster,
) -> None:
    cluster = serving.cluster
    written: list[str] = []
    publish(cluster, "v1")
    rollout = {"strategy": "blueGreen", "drainSeconds": 10}
    cluster.create(a_deployment(gateway=GATEWAY, rollout=rollout)).raise_for_status()
    asyncio.run(live_and_die(cluster, written, until=is_at_rest("v1")))
    serving.requests_per_second = 30
    publish(cluster, "v2")
    asyncio.run(live_and_die(cluster, written, until=is_at_rest("v2")))
    serving.requests_per_second = 0

    assert serving.versions() == ["v2"]
    assert {"create Deployment", "apply HTTPRoute", "delete Deployment"} <= set(written)
    assert written.count("create Deployment") == 2
    assert serving.answers.failed == []
    assert set(serving.answers.by_version) == {"v1", "v2"}


@pytest.mark.alone
def test_the_api_server_is_killed_while_a_candidate_is_on_trial(
    serving: ServingCluster, kill_api_server: Callable[[], None]
) -> None:
    cluster = serving.cluster
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY, rollout=CANARY)).raise_for_status()

    @contextmanager
    def operator() -> Iterator[subprocess.Popen[bytes]]:
        with an_operator(cluster.namespace) as (process, _):
            yield process

    with kept_running(operator):
        serving.wait_until(is_at_rest("v1"))
        serving.requests_per_second = 30
        publish(cluster, "v2")
        serving.wait_until(lambda status: status.get("candidate", {}).get("state") == "Analyzing")
        kill_api_server()
        promoted = serving.wait_until(is_at_rest("v2"), timeout_s=120)
        serving.requests_per_second = 0

    assert promoted.get("rejected", []) == []
    assert serving.answers.failed == []
