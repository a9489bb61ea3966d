"""The Lease by which replicas agree on one leader."""

import asyncio
import time
from typing import Final

from aiohttp import ClientError
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

# Seconds. A leader ends before another may follow it, however long its requests hang.
DURATION_S: Final = 15
OVERDUE_S: Final = 12.0
RENEW_DEADLINE_S: Final = 10
RETRY_S: Final = 2
_REQUEST_S: Final = 5.0

_Found = tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]


class Lease(LeaseLock):
    """The client library's lock (37.0), and what that lacks.

    Its `create` passes a flag that the API refuses, a connection that breaks ends it, and one that
    hangs keeps it for minutes in the belief that it leads.
    """

    def __init__(self, name: str, namespace: str, identity: str, api: client.ApiClient) -> None:
        super().__init__(name, namespace, identity, api)
        self._renewed_at: float | None = None

    def is_overdue(self) -> bool:
        """Whether it was held, and has not been renewed for so long that another may soon hold it.

        A renewal counts from when it was asked for.
        """
        if self._renewed_at is None:
            return False
        return time.monotonic() - self._renewed_at > OVERDUE_S

    async def get(self, name: str, namespace: str) -> _Found:
        """Whether the Lease could be read, and what it says or why not."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                found: _Found = await super().get(name, namespace)
        except (ClientError, TimeoutError) as error:
            return False, ApiException(reason=repr(error))
        return found

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
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_REQUEST_S):
                is_updated: bool = await super().update(name, namespace, updated_record)
        except (ClientError, TimeoutError):
            return False
        if is_updated:
            self._renewed_at = asked_at
        return is_updated
