"""The Lease by which replicas agree on one leader, and the work of the one that holds it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from aiohttp import ClientError, ClientSSLError
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock
from prometheus_client import Gauge

# Seconds. A leader ends before another may follow it, however long its requests hang: overdue after
# 12 of 15, looked at each second, and a request of its own is given up after 5.
DURATION_S: Final = 15
OVERDUE_S: Final = 12.0
RENEW_DEADLINE_S: Final = 10
RETRY_S: Final = 2
_REQUEST_S: Final = 5.0

_Answer = tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]


class Lease(LeaseLock):
    """The client library's lock (37.0), and what that lacks.

    Its `create` passes a flag that the API refuses, a connection that breaks ends it, and one that
    hangs keeps it for minutes in the belief that it leads.
    """

    def __init__(self, name: str, namespace: str, identity: str, api: client.ApiClient) -> None:
        super().__init__(name, namespace, identity, api)
        self._renewed_at: float | None = None
        self._refused_since: float | None = None

    def is_overdue(self) -> bool:
        """Whether it was held, and has not been renewed for so long that another may soon hold it.

        A renewal counts from when it was asked for.
        """
        if self._renewed_at is None:
            return False
        return time.monotonic() - self._renewed_at > OVERDUE_S

    def is_refused(self) -> bool:
        """Whether the API server has not known us for as long: our credentials are of the past.

        In a pod they are read anew each minute, but not those of a kubeconfig, nor an authority.
        """
        if self._refused_since is None:
            return False
        return time.monotonic() - self._refused_since > OVERDUE_S

    async def get(self, name: str, namespace: str) -> _Answer:
        """Whether the Lease could be read, and what it says or why not."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                answer: _Answer = await super().get(name, namespace)
        except (ClientError, TimeoutError) as error:
            self._note(error)
            # The election reads `reason` off whatever it is given instead of a record.
            return False, ApiException(reason=repr(error))
        self._note(answer[1])
        return answer

    def _note(self, answer: object) -> None:
        is_refused = isinstance(answer, ClientSSLError) or (
            isinstance(answer, ApiException) and answer.status == HTTPStatus.UNAUTHORIZED
        )
        self._refused_since = (self._refused_since or time.monotonic()) if is_refused else None

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        """Whether the Lease could be made; another replica may have been faster."""
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name),
            spec=self.update_lease(election_record),
        )
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_REQUEST_S):
                await self.api_instance.create_namespaced_lease(namespace, body)
        except (ApiException, ClientError, TimeoutError):
            return False
        self._renewed_at = asked_at
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Whether the Lease could be taken or renewed."""
        # From before the request: the server may have counted from its arrival, and the answer may
        # have taken seconds.
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_REQUEST_S):
                is_updated: bool = await super().update(name, namespace, updated_record)
        except (ClientError, TimeoutError):
            return False
        if is_updated:
            self._renewed_at = asked_at
        return is_updated


class Election(leaderelection.LeaderElection):
    """The client library's election (37.0), with a Lease that ends by a clock that nobody sets.

    By the wall clock, one that is set forward has a follower take the Lease from a leader that is
    well, and one that is set back leaves the Lease of a dead leader alone until it has caught up.
    """

    # NB: the library writes its wall clock here at each change, and reads it to compare it with the
    # wall clock of later. What it writes is not kept: only that something has changed just now.
    @property
    def observed_time_milliseconds(self) -> int:
        """When the Lease was last seen to change, as the wall clock of now has it."""
        return int((time.time() - (time.monotonic() - self._observed_at)) * 1000)

    @observed_time_milliseconds.setter
    def observed_time_milliseconds(self, _: int) -> None:
        self._observed_at = time.monotonic()


async def lead(
    lease: Lease,
    work: Callable[[], Coroutine[Any, Any, None]],
    *,
    leading: Gauge,
) -> None:
    """Wait for the Lease, and work for as long as it is held, with `leading` at 1.

    Returns when the Lease is lost, or nothing is to be learnt of it with our credentials, and
    raises what `work` raises.
    """
    working: list[asyncio.Task[None]] = []

    async def begin() -> None:
        leading.set(1)
        working.append(asyncio.create_task(work()))
        await working[0]

    async def end() -> None:
        leading.set(0)

    election = Election(
        electionconfig.Config(
            lease,
            lease_duration=DURATION_S,
            renew_deadline=RENEW_DEADLINE_S,
            retry_period=RETRY_S,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
    )
    elected = asyncio.create_task(election.run())
    try:
        # The election itself notices a Lease that another has taken, and the clock here one that
        # nobody could renew, whatever the election waits for.
        while not (lease.is_overdue() or lease.is_refused()) and not any(
            task.done() for task in (elected, *working)
        ):
            await asyncio.wait({elected, *working}, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        for task in (*working, elected):
            if task.done():
                await task
    finally:
        # NB: the work ends before this returns. Left to the end of the process, it could still
        # write while the next leader begins.
        for task in (elected, *working):
            task.cancel()
        await asyncio.gather(elected, *working, return_exceptions=True)
