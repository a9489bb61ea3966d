"""Asks the replicas themselves, over HTTP at their pods' addresses, all at once.

Whoever does not answer in time, or not in the words expected, is left out of the answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

import aiohttp

from tunesmith_api.json_io import read_json
from tunesmith_engine.deployment.adapter_hosts import query_of
from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.drift_page import MAX_DRIFT_PAGES, DriftPage
from tunesmith_engine.rollout.ring_page import MAX_PAGES, MAX_SAMPLES_OF_PAGE, RingPage
from tunesmith_operator.modeldeployment.serving_pod import PORT

T = TypeVar("T")

TIMEOUT_S: Final = 3.0
_CONNECT_S: Final = 1.0
_MAX_BYTES: Final = 4 << 20
# Not there, or another server than ours.
_NO_ANSWER: Final = (aiohttp.ClientError, OSError, LookupError, TypeError, ValueError)


class Replicas(Protocol):
    """Where replicas are asked; by name, each at its address."""

    async def states(self, hosts: Mapping[str, str]) -> dict[str, ReplicaReport]:
        """What those that answer say of themselves."""

    async def samples(
        self, hosts: Mapping[str, str], after: Mapping[str, int]
    ) -> dict[str, list[RingPage]]:
        """The pages of samples of those that answer, each behind the place that was read."""

    async def metrics(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """What those that answer show to Prometheus."""

    async def drift(
        self, hosts: Mapping[str, str], after: Mapping[str, int]
    ) -> dict[str, list[DriftPage]]:
        """The measured requests of those that answer, each behind the place that was read."""

    async def reference(self, name: str, address: str) -> dict[str, Any] | None:
        """The statistics of the data that a replica's version was trained on; None without any."""

    async def hold(self, lists: Mapping[str, tuple[str, AdapterList]]) -> None:
        """Tell each, at its address, which adapters to hold; some may not hear it."""


class HttpReplicas:
    """The real ones."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def states(self, hosts: Mapping[str, str]) -> dict[str, ReplicaReport]:
        """What those that answer say of themselves."""
        async with _session() as session:
            return await _gather(
                (name, self._state(session, address)) for name, address in hosts.items()
            )

    async def samples(
        self, hosts: Mapping[str, str], after: Mapping[str, int]
    ) -> dict[str, list[RingPage]]:
        """The pages of samples of those that answer, each behind the place that was read."""
        async with _session() as session:
            return await _gather(
                (name, self._pages(session, name, address, after[name]))
                for name, address in hosts.items()
            )

    async def metrics(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """What those that answer show to Prometheus."""
        async with _session() as session:
            return await _gather(
                (name, self._text(session, address)) for name, address in hosts.items()
            )

    async def drift(
        self, hosts: Mapping[str, str], after: Mapping[str, int]
    ) -> dict[str, list[DriftPage]]:
        """The measured requests of those that answer, each behind the place that was read."""
        async with _session() as session:
            return await _gather(
                (name, self._drift(session, name, address, after[name]))
                for name, address in hosts.items()
            )

    async def reference(self, name: str, address: str) -> dict[str, Any] | None:
        """The statistics of the data that a replica's version was trained on; None without any."""
        async with _session() as session:
            told = await _gather([("", self._get(session, address, f"reference?{query_of(name)}"))])
        return told.get("")

    async def _state(self, session: aiohttp.ClientSession, address: str) -> ReplicaReport:
        return ReplicaReport.model_validate(await self._get(session, address, "state"))

    async def hold(self, lists: Mapping[str, tuple[str, AdapterList]]) -> None:
        """Tell each, at its address, which adapters to hold; some may not hear it."""
        async with _session() as session:
            await _gather(
                (name, self._hold(session, address, adapters))
                for name, (address, adapters) in lists.items()
            )

    async def _hold(
        self, session: aiohttp.ClientSession, address: str, adapters: AdapterList
    ) -> None:
        body = adapters.model_dump_json(by_alias=True)
        url = self._url(address, "tunesmith/adapters")
        async with session.put(url, data=body, raise_for_status=True, allow_redirects=False):
            return

    async def _pages(
        self, session: aiohttp.ClientSession, name: str, address: str, after: int
    ) -> list[RingPage]:
        pages: list[RingPage] = []
        while len(pages) < MAX_PAGES:
            path = f"samples?after={after}&limit={MAX_SAMPLES_OF_PAGE}{query_of(name)}"
            answer = await self._get(session, address, path)
            pages.append(RingPage.of(answer, read_at=time.monotonic()))
            if pages[-1].is_last:
                break
            after = pages[-1].next
        return pages

    async def _drift(
        self, session: aiohttp.ClientSession, name: str, address: str, after: int
    ) -> list[DriftPage]:
        pages: list[DriftPage] = []
        while len(pages) < MAX_DRIFT_PAGES and (not pages or pages[-1].blocks):
            place = pages[-1].next if pages else after
            path = f"drift?after={place}{query_of(name)}"
            pages.append(DriftPage.of(await self._get(session, address, path)))
        return pages

    async def _text(self, session: aiohttp.ClientSession, address: str) -> str:
        return (await self._read(session, address, "metrics")).decode()

    async def _get(self, session: aiohttp.ClientSession, address: str, path: str) -> Any:
        return read_json(await self._read(session, address, f"tunesmith/{path}"))

    async def _read(self, session: aiohttp.ClientSession, address: str, path: str) -> bytes:
        # NB: no redirect. A pod would have the operator ask what only the operator reaches.
        async with session.get(self._url(address, path), allow_redirects=False) as response:
            response.raise_for_status()
            if not 0 < (response.content_length or 0) <= _MAX_BYTES:
                raise ValueError(f"{address} sends {response.content_length} bytes")
            return await response.read()

    def _url(self, address: str, path: str) -> str:
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self._port}/{path}"


def _session() -> aiohttp.ClientSession:
    # No proxy of the environment: a pod's address is of the cluster alone.
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=_CONNECT_S)
    return aiohttp.ClientSession(timeout=timeout, trust_env=False)


async def _gather(asked: Iterable[tuple[str, Awaitable[T]]]) -> dict[str, T]:
    questions = dict(asked)
    answers = await asyncio.gather(*questions.values(), return_exceptions=True)
    told: dict[str, T] = {}
    for name, answer in zip(questions, answers, strict=True):
        if not isinstance(answer, BaseException):
            told[name] = answer
        elif not isinstance(answer, _NO_ANSWER):
            raise answer
    return told
