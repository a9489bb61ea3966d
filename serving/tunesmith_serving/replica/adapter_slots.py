"""The adapters that a replica holds, brought to those that it was told: loaded, proven, unloaded.

Level-triggered: whatever was told last is what counts, and what failed is tried again.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry

from tunesmith_engine.deployment.adapter_list import AdapterList, WantedAdapter
from tunesmith_engine.deployment.replica_report import ReadyReason
from tunesmith_serving.replica.adapter_files import AdapterRefused, prove_adapter
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.in_process import Application, Response, request
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.readiness import Verdict

LOGGER = logging.getLogger(__name__)
LOAD: Final = "/v1/load_lora_adapter"
UNLOAD: Final = "/v1/unload_lora_adapter"
_OK: Final = 200
# vLLM's word that the adapter is at fault: not there, no adapter, of another shape.
_REFUSED: Final = range(400, 500)
# Between two tries, and two looks at whether the requests of one that goes have ended.
_PAUSE_S: Final = 0.5
_WAITING: Final = Verdict(ReadyReason.ADAPTER_LOADING, "it is loaded")


@dataclass(slots=True)
class Slot:
    """An adapter in the engine, and what counts and watches its requests."""

    wanted: WantedAdapter
    replica: Replica
    registry: CollectorRegistry
    is_leaving: bool = False


@dataclass(slots=True)
class AdapterSlots:
    """Those of one process; `told` is None until somebody has said which ones it shall hold."""

    app: Application
    settings: HostSettings
    clock: Callable[[], float]
    told: AdapterList | None = None
    is_draining: bool = False
    shared: Mapping[str, Any] = field(default_factory=dict)
    _slots: dict[str, Slot] = field(default_factory=dict)
    _failures: dict[str, Verdict] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def loaded(self) -> Mapping[str, Slot]:
        """By revision; some may be on their way out."""
        return self._slots

    def tell(self, adapters: AdapterList) -> None:
        """Name all adapters that are wanted from now on."""
        self.told = adapters
        self._mark()
        self._news.set()

    def serving(self, revision: str | None) -> Slot | None:
        """The one that takes a request; without a revision the only one there is."""
        staying = [slot for slot in self._slots.values() if not slot.is_leaving]
        if revision is None:
            return staying[0] if len(staying) == 1 else None
        return next((slot for slot in staying if slot.wanted.revision == revision), None)

    def why_missing(self, revision: str) -> Verdict:
        """Why a wanted adapter is not loaded."""
        return self._failures.get(revision, _WAITING)

    def drain(self) -> None:
        """No adapter becomes ready any more."""
        self.is_draining = True
        for slot in self._slots.values():
            slot.replica.drain()

    async def run(self) -> None:
        """Bring about what was told, until cancelled."""
        while True:
            is_done = await self.reconcile()
            try:
                async with asyncio.timeout(None if is_done else _PAUSE_S):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def reconcile(self) -> bool:
        """Make one step with each adapter; whether nothing is left to do."""
        self._mark()
        for revision, slot in list(self._slots.items()):
            # NB: out of the route is not the end of what came by it before.
            if slot.is_leaving and not slot.replica.num_running:
                await self._unload(revision, slot)
        wanted = self.told.adapters if self.told else ()
        for adapter in wanted:
            if adapter.revision not in self._slots:
                await self._try_to_load(adapter)
        named = {adapter.revision for adapter in wanted}
        self._failures = {name: why for name, why in self._failures.items() if name in named}
        return named == self._slots.keys() and not any(s.is_leaving for s in self._slots.values())

    def _mark(self) -> None:
        """Give no new request to what is not wanted, and update what is."""
        named = {adapter.revision: adapter for adapter in (self.told.adapters if self.told else ())}
        for revision, slot in self._slots.items():
            wanted = named.get(revision)
            slot.is_leaving = wanted is None or wanted.digest != slot.wanted.digest
            if wanted is not None and not slot.is_leaving:
                slot.wanted = wanted

    async def _try_to_load(self, wanted: WantedAdapter) -> None:
        try:
            await self._load(wanted)
        except AdapterRefused as error:
            self._fail(wanted, Verdict(ReadyReason.ADAPTER_REFUSED, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever the engine or the disk raises, it may pass
            # The class alone: a message may quote a path.
            message = f"{type(error).__name__}; it is tried again"
            self._fail(wanted, Verdict(ReadyReason.ADAPTER_LOADING, message))
        else:
            self._failures.pop(wanted.revision, None)

    def _fail(self, wanted: WantedAdapter, why: Verdict) -> None:
        if self._failures.get(wanted.revision) != why:
            LOGGER.warning("adapter %s: %s: %s", wanted.version, why.reason, why.message)
        self._failures[wanted.revision] = why

    async def _load(self, wanted: WantedAdapter) -> None:
        files = await asyncio.to_thread(
            prove_adapter,
            wanted,
            base_digest=self.settings.digest,
            public_keys=self.settings.public_keys,
        )
        name = self.settings.name_of(wanted.revision)
        body = {"lora_name": name, "lora_path": str(files.folder)}
        # A load whose answer was lost is made again.
        answer = await self._ask(LOAD, {**body, "load_inplace": True})
        if answer.status in _REFUSED:
            raise AdapterRefused(f"the engine refuses it with status {answer.status}")
        if answer.status != _OK:
            raise RuntimeError(answer.status)
        registry = CollectorRegistry()
        settings = self.settings.of_adapter(wanted, fingerprints=files.fingerprints)
        replica = Replica(self.app, settings, self.clock, registry, self._num_sharing)
        if self.is_draining:
            replica.drain()
        replica.begin(self.shared)
        self._slots[wanted.revision] = Slot(wanted, replica, registry)

    def _num_sharing(self) -> int:
        """Adapters among which the engine's tokens are shared; one that comes is no slot yet."""
        return max(len(self._slots), 1)

    async def _unload(self, revision: str, slot: Slot) -> None:
        slot.replica.end()
        answer = await self._ask(UNLOAD, {"lora_name": self.settings.name_of(revision)})
        # NB: vLLM forgets the name now, and the weights when another adapter needs their place.
        if answer.status in {_OK, *_REFUSED}:
            del self._slots[revision]

    async def _ask(self, path: str, content: Mapping[str, Any]) -> Response:
        body = json.dumps(content).encode()
        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        headers["content-length"] = str(len(body))
        if key := os.environ.get("VLLM_API_KEY"):
            headers["authorization"] = f"Bearer {key}"
        return await request(
            self.app, path, method="POST", body=body, headers=headers, shared=self.shared
        )
