"""Hundreds of faults drawn from one seed, over jobs and searches in flight.

TEST_CHAOS_FAULTS and TEST_CHAOS_SEED shorten it and draw others. What holds whatever happens: no
child is made twice, every job ends as one that nobody disturbed, no child is left without its
owner, and whoever waits says for what.
"""

import logging
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from audit_log import AuditLog
from births import Births, watched_births
from crowd import Crowd, a_crowd, picture
from faulty_network import a_network
from held_jobs import kept_running, operator_for
from storms import Chaos, Storms
from tunesmith_operator.kube.objects import condition_of

LOG = logging.getLogger(__name__)
pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(3600)]

FAULTS: Final = int(os.environ.get("TEST_CHAOS_FAULTS", "200"))
SEED: Final = int(os.environ.get("TEST_CHAOS_SEED", "1"))
IN_FLIGHT: Final = 4
SEARCH: Final[dict[str, Any]] = {
    "search": {"parameters": [{"field": "training.lora.rank", "values": [8, 16]}]}
}
# After which a job has been looked at, if an operator has run all the time.
UNSEEN_S: Final = 40.0
OURS: Final = {"jobs", "configmaps", "persistentvolumeclaims", "serviceaccounts", "roles"}


class Operators:
    """The operator that runs now; another takes its place."""

    def __init__(self, crowd: Crowd, kubeconfig: Path) -> None:
        self._crowd = crowd
        self._kubeconfig = kubeconfig
        self._process: subprocess.Popen[bytes] | None = None
        self.since = time.monotonic()

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        with operator_for(self._crowd, self._kubeconfig) as process:
            self._process, self.since = process, time.monotonic()
            yield process

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._crowd.forget_leader()


def test_whatever_happens_nothing_is_made_twice_lost_or_left_and_every_wait_is_explained(
    server: httpx.Client, kill_api_server: Callable[[], None], audit_log: AuditLog
) -> None:
    lot = random.Random(SEED)
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        # A lot of its own: how often the network draws is a matter of time.
        storms = Storms(crowd.home, random.Random(SEED))
        with a_network(str(server.base_url), storms) as (network, kubeconfig):
            operators = Operators(crowd, kubeconfig)
            chaos = Chaos(
                storms, network, kill_operator=operators.kill, kill_server=kill_api_server
            )
            with kept_running(operators.start):
                happened = disturb(crowd, chaos, operators, lot)
                undisturbed = {"job": crowd.add(), "search": crowd.add(**SEARCH)}
                crowd.play(until=crowd.are_over, timeout_s=600)
        orphans = orphans_of(crowd, births)
        jobs = crowd.jobs()
        pictures = {name: picture(job, births.all) for name, job in jobs.items()}
    LOG.info("seed %d: %d jobs; %s; felt %s", SEED, len(jobs), dict(happened), storms.felt)

    assert births.twins() == {}
    assert made_twice(audit_log, crowd.home) == {}
    assert orphans == []
    assert {name: job["status"]["phase"] for name, job in jobs.items()} == dict.fromkeys(
        jobs, "Succeeded"
    )
    kinds = {name: "search" if "search" in job["spec"] else "job" for name, job in jobs.items()}
    assert pictures == {name: pictures[undisturbed[kind]] for name, kind in kinds.items()}


def disturb(crowd: Crowd, chaos: Chaos, operators: Operators, lot: random.Random) -> Counter[str]:
    """One fault after the other, with so many jobs in flight; how often each was drawn."""
    happened: Counter[str] = Counter()
    first = crowd.add()
    crowd.play(until=lambda: crowd.phases()[first] != "")
    for number in range(FAULTS):
        while len(crowd.unfinished()) < IN_FLIGHT:
            crowd.add(**(SEARCH if len(crowd.namespaces) % IN_FLIGHT == 0 else {}))
        name = lot.choice(sorted(chaos.faults))
        begin, end = chaos.faults[name]
        happened[name] += 1
        LOG.info("fault %d: %s", number, name)
        begin()
        play_for(crowd, lot.uniform(0.2, 3.0))
        end()
        play_for(crowd, lot.uniform(0.2, 2.0))
        # One that has just started has yet to look at them.
        if time.monotonic() > operators.since + UNSEEN_S:
            assert unexplained(crowd) == {}
    return happened


def play_for(crowd: Crowd, seconds: float) -> None:
    """Let pods succeed for a while."""
    end = time.monotonic() + seconds
    crowd.play(until=lambda: time.monotonic() > end)


def unexplained(crowd: Crowd) -> dict[str, Any]:
    """Jobs that have not ended and do not say what they wait for."""
    waiting = {
        name: status
        for name, status in crowd.unfinished().items()
        if not (condition_of({"status": status}, "Ready") or {}).get("message")
    }
    born = {name: job["metadata"]["creationTimestamp"] for name, job in crowd.jobs().items()}
    return {name: status for name, status in waiting.items() if _age(born[name]) > UNSEEN_S}


def _age(timestamp: str) -> float:
    return time.time() - time.mktime(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone


def orphans_of(crowd: Crowd, births: Births) -> list[str]:
    """Children that are there, and whose job is not."""
    births.alive(crowd.namespaces)
    uids = {job["metadata"]["uid"] for job in crowd.jobs().values()}
    return [
        f"{namespace}/{plural}/{child['metadata']['name']}"
        for namespace in crowd.namespaces
        for plural in ("jobs", "configmaps", "persistentvolumeclaims")
        for child in crowd.children(namespace, plural)
        if not uids & {owner["uid"] for owner in child["metadata"].get("ownerReferences", ())}
    ]


def made_twice(audit_log: AuditLog, home: str) -> dict[tuple[str, ...], int]:
    """Children that the API server has made more than once, by its own log."""
    made: Counter[tuple[str, ...]] = Counter()
    for call in audit_log.calls(f'"{home}'):
        where = call.get("objectRef", {})
        is_made = call.get("responseStatus", {}).get("code") == httpx.codes.CREATED
        if is_made and where.get("resource") in OURS and "subresource" not in where:
            made[where["namespace"], where["resource"], where.get("name", "")] += 1
    return {child: number for child, number in made.items() if number > 1}
