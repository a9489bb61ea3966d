"""Who leads is a matter of time that has passed, whatever the wall clock is set to."""

import asyncio
import time

import pytest
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock
from prometheus_client import Gauge

from tunesmith_operator.controller import leader_election
from tunesmith_operator.controller.leader_election import (
    DURATION_S,
    RENEW_DEADLINE_S,
    Election,
    Lease,
    lead,
)

HOUR = 3600.0


class HeldLease(BaseLock):
    """A Lease that another holds, and does not renew any more."""

    async def get(self, *_: object) -> tuple[bool, LeaderElectionRecord]:
        return True, LeaderElectionRecord("leader", str(DURATION_S), "then", "then")

    async def create(self, *_: object) -> bool:
        return False

    async def update(self, *_: object) -> bool:
        return True


class Clocks:
    """Both clocks of this process, moved as a test wants."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        wall, steady = time.time, time.monotonic
        self.set_by = self.passed = 0.0
        patch.setattr(time, "time", lambda: wall() + self.set_by + self.passed)
        patch.setattr(time, "monotonic", lambda: steady() + self.passed)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def tries_for_it(follower: Election) -> bool:
    return asyncio.run(follower.try_acquire_or_renew())


def a_follower() -> Election:
    async def nothing() -> None:
        return

    return Election(
        Config(
            HeldLease("tunesmith", "tunesmith", "follower"),
            lease_duration=DURATION_S,
            renew_deadline=RENEW_DEADLINE_S,
            retry_period=2,
            onstarted_leading=nothing,
            onstopped_leading=nothing,
        )
    )


def test_a_clock_that_is_set_forward_takes_no_lease_from_its_leader(clocks: Clocks) -> None:
    follower = a_follower()
    tries = [tries_for_it(follower)]
    clocks.set_by = HOUR
    tries.append(tries_for_it(follower))

    assert tries == [False, False]


def test_a_clock_that_is_set_back_keeps_nobody_from_the_lease_of_a_dead_leader(
    clocks: Clocks,
) -> None:
    follower = a_follower()
    tries = [tries_for_it(follower)]
    clocks.set_by = -HOUR
    clocks.passed = DURATION_S - 1.0
    tries.append(tries_for_it(follower))
    clocks.passed = DURATION_S + 1.0
    tries.append(tries_for_it(follower))

    assert tries == [False, False, True]


def test_who_waits_for_a_lease_ends_when_the_api_server_does_not_know_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would look well, and be of no use when the leader goes."""

    async def refuse(*_: object) -> None:
        raise ApiException(status=401, reason="Unauthorized")

    async def nothing() -> None:
        return

    monkeypatch.setattr(leader_election, "OVERDUE_S", 0.5)
    monkeypatch.setattr(client.CoordinationV1Api, "read_namespaced_lease", refuse)

    async def wait() -> bool:
        async with client.ApiClient() as api:
            lease = Lease("tunesmith", "tunesmith", "follower", api)
            leading = Gauge("leading", "", registry=None)
            await asyncio.wait_for(lead(lease, nothing, leading=leading), timeout=10)
            return lease.is_refused()

    assert asyncio.run(wait())
