"""Faults drawn by lot, one after the other, between one operator and its API server."""

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from faulty_network import Answer, Call, Lost, Network, Send
from held_jobs import Ours

_LOG = logging.getLogger(__name__)

# What is answered during a spell, and for which part of the requests.
_STORM: Final = 0.8
_LOSS: Final = 0.4
# As the API server says it.
_FULL: Final = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,'
    b'"message":"etcdserver: mvcc: database space exceeded"}'
)
_LISTS: Final = (
    "finetunejobs",
    "jobs",
    "pods",
    "configmaps",
    "modeldeployments",
    "modelversions",
    "deployments",
    "services",
)


class Storms(Ours):
    """Passes requests on, but for spells in which it refuses, loses or remembers."""

    def __init__(self, home: str, lot: random.Random) -> None:
        super().__init__(home)
        self._lot = lot
        self._memory: dict[str, Answer] = {}
        self.spell = ""
        # How often each spell was felt.
        self.felt: dict[str, int] = {}

    async def answer(self, call: Call, send: Send) -> Answer:
        if not call.namespace and call.target in [[name] for name in _LISTS]:
            return await self._listed(call, send)
        return await super().answer(call, send)

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        if self.spell == "429" and self._lot.random() < _STORM:
            self._feel()
            await asyncio.sleep(0.01)
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, b"{}")
        if self.spell == "503" and self._lot.random() < _STORM:
            self._feel()
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"{}")
        if self.spell == "full" and call.is_write:
            self._feel()
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _FULL)
        answer = await send()
        if self.spell == "lost" and call.is_write and self._lot.random() < _LOSS:
            self._feel()
            raise Lost
        return answer

    async def _listed(self, call: Call, send: Send) -> Answer:
        """A list, as it was at the last look where the spell says so."""
        if self.spell == "old" and call.path in self._memory:
            self._feel()
            return self._memory[call.path]
        answer = await super().answer(call, send)
        if answer.status == HTTPStatus.OK and self.spell != "old":
            self._memory[call.path] = answer
        return answer

    def _feel(self) -> None:
        self.felt[self.spell] = self.felt.get(self.spell, 0) + 1


class Chaos:
    """Every fault by name: what begins it, and what ends it."""

    def __init__(self, storms: Storms, network: Network) -> None:
        def spell(name: str) -> Callable[[], None]:
            return lambda: setattr(storms, "spell", name)

        def old() -> None:
            storms.spell = "old"
            network.forget_watches()

        self._calm = calm = spell("")

        def anew() -> None:
            calm()
            network.forget_watches()

        self.faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "watches break": (network.break_watches, calm),
            "watches are too old": (network.forget_watches, calm),
            "429 for most": (spell("429"), calm),
            "503 for most": (spell("503"), calm),
            "answers to writes are lost": (spell("lost"), calm),
            "lists are old": (old, anew),
            "the network is cut": (network.cut, network.mend),
            "the token is rotated": (network.rotate_token, calm),
            "the certificate is rotated": (network.rotate_certificate, calm),
            "the disk of etcd is full": (spell("full"), calm),
        }

    def add(
        self, name: str, begin: Callable[[], None] | None, end: Callable[[], None] | None = None
    ) -> None:
        """Another fault; without an end it is over at once, and left out if nothing begins it."""
        if begin is None:
            _LOG.warning("left out, since nothing here can do it: %s", name)
        else:
            self.faults[name] = begin, end or self._calm
