"""Hundreds of faults drawn from one seed, over jobs, searches and deployments in flight.

TEST_CHAOS_FAULTS and TEST_CHAOS_SEED shorten it and draw others. What holds whatever happens: no
child is made twice, every job ends and every deployment serves as one that nobody disturbed, no
child is left without its owner, and whoever waits says for what.
"""

import json
import logging
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from audit_log import AuditLog
from births import watched_births
from chaos_invariants import made_twice, orphans_of, wait_for_words
from crowd import Crowd, a_crowd, picture
from deployments_in_flight import DeploymentInFlight, in_flight
from faulty_network import a_network
from held_jobs import kept_running, operator_for
from set_clock import SetClock
from storms import Chaos, Storms
from tunesmith_api.reasons import Reason

LOG = logging.getLogger(__name__)
pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(3600)]

FAULTS: Final = int(os.environ.get("TEST_CHAOS_FAULTS", "200"))
SEED: Final = int(os.environ.get("TEST_CHAOS_SEED", "1"))
IN_FLIGHT: Final = 4
HOUR: Final = 3600
# After so many faults there is a new version for each deployment, and everybody is asked for words.
FAULTS_PER_VERSION: Final = 8
SEARCH: Final[dict[str, Any]] = {
    "search": {"parameters": [{"field": "training.lora.rank", "values": [8, 16]}]}
}
# After which an operator that is just being started has waited for its Lease, and looked at
# everything, also on a machine that has much else to do.
UNSEEN_S: Final = 180.0
REST_S: Final = 300.0

Kind = tuple[bool, bool]


class Operators:
    """The operator that runs now; another takes its place."""

    def __init__(self, crowd: Crowd, kubeconfig: Path, clock: SetClock) -> None:
        self._crowd = crowd
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        with operator_for(self._crowd, self._kubeconfig, self._clock) as process:
            self._process = process
            yield process

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._crowd.forget_leader()


def test_whatever_happens_nothing_is_made_twice_lost_or_left_and_every_wait_is_explained(
    server: httpx.Client,
    kill_api_server: Callable[[], None],
    kill_etcd: Callable[[], None] | None,
    audit_log: AuditLog,
    tmp_path: Path,
) -> None:
    with (
        a_crowd(server) as crowd,
        watched_births(server, crowd.home) as births,
        in_flight(server, crowd) as deployments,
    ):
        # A lot of its own: how often the network draws is a matter of time.
        storms, clock = Storms(crowd.home, random.Random(SEED)), SetClock(tmp_path / "clock")
        with a_network(str(server.base_url), storms) as (network, kubeconfig):
            operators = Operators(crowd, kubeconfig, clock)
            chaos = Chaos(storms, network)
            chaos.add("the operator is killed", operators.kill)
            chaos.add("the API server is killed", kill_api_server)
            chaos.add("etcd is killed", kill_etcd)
            chaos.add("a node is lost", partial(lose_node, crowd, random.Random(SEED)))
            chaos.add(
                "the clock is an hour ahead",
                partial(clock.set_ahead, HOUR),
                partial(clock.set_ahead, 0),
            )
            with kept_running(operators.start):
                happened = disturb(crowd, deployments, chaos, random.Random(SEED))
                undisturbed = add_undisturbed(crowd)
                crowd.play(until=crowd.are_over, timeout_s=600)
                stands = at_rest(deployments)
                expected = as_undisturbed(server, crowd, stands)
        orphans = orphans_of(crowd, births, deployments.values())
        jobs = crowd.jobs()
        pictures = {name: as_seen_late(picture(job, births.all)) for name, job in jobs.items()}
    LOG.info("seed %d: %d jobs, of which %d lost a node", SEED, len(jobs), len(crowd.lost_node))
    LOG.info("%s; felt %s", dict(happened), storms.felt)
    LOG.info("%s", {name: each.summary for name, each in deployments.items()})

    assert births.twins() == {}
    assert made_twice(audit_log, crowd.home) == {}
    assert orphans == []
    assert {name: job["status"]["phase"] for name, job in jobs.items()} == dict.fromkeys(
        jobs, "Succeeded"
    )
    expected_of = {name: undisturbed[kind_of(crowd, job)] for name, job in jobs.items()}
    assert [
        line
        for name, alike in expected_of.items()
        for line in differences(name, pictures[name], pictures[alike])
    ] == []
    assert stands == expected
    assert [each.serving.answers.failed for each in deployments.values()] == [[], []]


def disturb(
    crowd: Crowd, deployments: Mapping[str, DeploymentInFlight], chaos: Chaos, lot: random.Random
) -> Counter[str]:
    """One fault after the other, with so many jobs in flight; how often each was drawn."""
    happened: Counter[str] = Counter()
    first = crowd.add()
    crowd.play(until=lambda: crowd.phases()[first] != "")
    at_rest(deployments)
    for number in range(FAULTS):
        while len(crowd.unfinished()) < IN_FLIGHT:
            crowd.add(**(SEARCH if len(crowd.namespaces) % IN_FLIGHT == 0 else {}))
        if number % FAULTS_PER_VERSION == 0:
            wait_for_words(crowd, deployments.values(), timeout_s=UNSEEN_S)
            for each in deployments.values():
                each.publish(f"v{number // FAULTS_PER_VERSION + 2}")
        name = lot.choice(sorted(chaos.faults))
        begin, end = chaos.faults[name]
        happened[name] += 1
        LOG.info("fault %d: %s", number, name)
        begin()
        play_for(crowd, lot.uniform(0.2, 3.0))
        end()
        play_for(crowd, lot.uniform(0.2, 2.0))
    return happened


def add_undisturbed(crowd: Crowd) -> dict[Kind, str]:
    """A job of each kind, for which nothing goes wrong but the node of those that lose one."""
    jobs: dict[Kind, str] = {}
    for fields in ({}, SEARCH):
        for loses_node in (False, True):
            name = jobs["search" in fields, loses_node] = crowd.add(**fields)
            if loses_node:
                crowd.losing_node.add(name)
    return jobs


def kind_of(crowd: Crowd, job: dict[str, Any]) -> Kind:
    """Whether it searches, and whether it has lost a node: jobs alike in this end alike."""
    return "search" in job["spec"], job["metadata"]["namespace"] in crowd.lost_node


def lose_node(crowd: Crowd, lot: random.Random) -> None:
    """Have a job lose the node of one of its stages, as soon as that runs; no job loses two."""
    if left := sorted(crowd.unfinished().keys() - crowd.losing_node - crowd.lost_node):
        crowd.losing_node.add(lot.choice(left))


def as_seen_late(pictured: dict[str, Any]) -> dict[str, Any]:
    """Without which node was lost: a pod that has gone with it leaves its Job alone to tell."""
    for attempt in pictured["status"]["attempts"]:
        if attempt["reason"] in {Reason.NODE_LOST, Reason.PREEMPTED}:
            attempt |= {"reason": Reason.PREEMPTED, "message": ""}
    return pictured


def differences(name: str, found: Any, wanted: Any) -> list[str]:
    """The lines in which two pictures differ; pytest shows no more than the beginning of them."""
    before, after = (
        json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (wanted, found)
    )
    return list(unified_diff(before, after, "undisturbed", name, n=1, lineterm=""))


def play_for(crowd: Crowd, seconds: float) -> None:
    """Let pods succeed for a while."""
    end = time.monotonic() + seconds
    crowd.play(until=lambda: time.monotonic() > end)


def at_rest(deployments: Mapping[str, DeploymentInFlight]) -> dict[str, Any]:
    """How each stands, once its newest version serves."""
    return {name: each.wait_until_at_rest(timeout_s=REST_S) for name, each in deployments.items()}


def as_undisturbed(server: httpx.Client, crowd: Crowd, stands: Mapping[str, Any]) -> dict[str, Any]:
    """How deployments stand that had the last version of these from the beginning."""
    expected: dict[str, Any] = {}
    for name, stand in stands.items():
        with in_flight(server, crowd, [name], version=stand["stable"]["version"]) as alone:
            expected |= at_rest(alone)
    return expected
