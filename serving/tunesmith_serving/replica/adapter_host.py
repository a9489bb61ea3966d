"""The middleware of a replica whose versions are LoRA adapters on one base.

    --middleware tunesmith_serving.replica.adapter_host.AdapterHost

`PUT /tunesmith/adapters` says which adapters to hold. Each has a `Replica` of its own: its
requests, samples and fingerprints are told apart by `?adapter=REVISION` behind every path below
/tunesmith/. Which adapter a client's request is for the proxy says, in a header; the client asks
for the model's public name.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from tunesmith_engine.deployment.adapter_list import REVISION_HEADER, AdapterList
from tunesmith_engine.deployment.replica_report import ReadyReason
from tunesmith_serving.replica.adapter_requests import (
    BodyTooLarge,
    PublicName,
    error,
    parse_body,
    read_body,
    with_body,
)
from tunesmith_serving.replica.adapter_slots import LOAD, UNLOAD, AdapterSlots
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.in_process import Application, Receive, Scope, Send
from tunesmith_serving.replica.middleware import OPENAI, OWN, is_inside, respond, shared_by
from tunesmith_serving.replica.readiness import Verdict

HOST_MIDDLEWARE: Final = f"{__name__}.AdapterHost"
# What changes adapters, or asks for one by its own name, behind the back of this middleware.
_CLOSED: Final = (LOAD, UNLOAD, "/adapters", "/invocations")
_MODELS: Final = "/v1/models"
_UNTOLD: Final = Verdict(ReadyReason.STARTING, "nobody has said yet which adapters to load")
_ON_THEIR_WAY: Final = {ReadyReason.STARTING, ReadyReason.ADAPTER_LOADING}
_NONE: Final = Verdict(ReadyReason.STARTING, "no adapter is wanted")


class AdapterHost:
    """An ASGI application around the engine's."""

    def __init__(
        self,
        app: Application,
        settings: HostSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._app = app
        self._settings = settings or HostSettings.from_environment()
        self._clock = clock
        self._started = clock()
        self._instance = secrets.token_hex(8)
        self._slots = AdapterSlots(app, self._settings, clock)
        self._running: asyncio.Task[None] | None = None
        registry.register(_Metrics(self._slots))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if self._running is None:
            self._slots.shared = shared_by(scope)
            self._running = asyncio.get_running_loop().create_task(self._slots.run())
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif path.startswith(OWN):
            await self._own(scope, receive, send)
        elif path.startswith(_CLOSED):
            await respond(send, 404, {"message": f"there is no {path}"})
        elif path.startswith(OPENAI):
            await self._openai(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def end(self) -> None:
        """Load, unload and watch no more."""
        if self._running is not None:
            self._running.cancel()
        for slot in self._slots.loaded.values():
            slot.replica.end()

    async def _openai(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a client's request to the adapter that the proxy has chosen."""
        public, body = self._settings.model, None
        if scope["method"] == "POST":
            try:
                body = parse_body(await read_body(receive))
            except BodyTooLarge:
                await respond(send, 413, error(413, "the request is too large", kind="BadRequest"))
                return
            if body is None:
                message = "the body has to be an object of JSON"
                await respond(send, 400, error(400, message, kind="BadRequestError"))
                return
        # NB: not before the body has been read. The adapter may have gone meanwhile.
        slot = self._slots.serving(_chosen(scope))
        if slot is None:
            message = "no adapter of that revision is loaded here; ask by way of the route"
            await respond(send, 503, error(503, message, kind="ServiceUnavailable"))
            return
        internal = self._settings.name_of(slot.wanted.revision)
        if body is not None:
            # NB: without a name vLLM takes the base.
            asked = body.get("model") or public
            # NB: nor by its own name. A client could get at a version that the route keeps from it.
            if isinstance(asked, str) and asked.startswith(f"{public}@"):
                message = f"The model `{asked}` does not exist."
                await respond(send, 404, error(404, message, kind="NotFoundError"))
                return
            body["model"] = internal if asked == public else asked
            scope, receive = with_body(scope, body, receive)
        is_list = scope["path"] == _MODELS
        named = PublicName(send, internal=internal, public=public, is_list=is_list)
        await slot.replica(scope, receive, named)

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("ascii", "replace"))
        revision = query.get("adapter", [None])[0]
        # A page of one adapter; but the list is the host's, and it drains as a whole.
        if revision is not None and scope["method"] == "GET":
            slot = self._slots.loaded.get(revision)
            if slot is not None and not (slot.is_leaving and scope["path"] == f"{OWN}ready"):
                await slot.replica(scope, receive, send)
                return
            why = self._slots.why_missing(revision)
            await respond(send, 503, {"reason": why.reason, "message": why.message})
            return
        match scope["method"], scope["path"].removeprefix(OWN):
            case "GET", "ready":
                await self._tell(send, is_well=self._verdict().is_ready)
            case "GET", "live":
                await self._tell(send, is_well=self._verdict().reason != ReadyReason.NO_PROGRESS)
            case "GET", "state":
                await respond(send, 200, self._state())
            case "PUT", "adapters":
                await self._take_list(receive, send)
            case "POST", "drain":
                await self._drain(scope, send)
            case _:
                await respond(send, 404, {"message": f"there is no {scope['path']}"})

    async def _tell(self, send: Send, *, is_well: bool) -> None:
        verdict = self._verdict()
        content = {"reason": verdict.reason, "message": verdict.message}
        await respond(send, 200 if is_well else 503, content)

    async def _take_list(self, receive: Receive, send: Send) -> None:
        try:
            told = AdapterList.model_validate_json(await read_body(receive))
        except (ValidationError, BodyTooLarge):
            await respond(send, 400, {"message": "a list of adapters is wanted"})
            return
        self._slots.tell(told)
        await respond(send, 202, self._state())

    async def _drain(self, scope: Scope, send: Send) -> None:
        if not is_inside((scope.get("client") or ("",))[0]):
            await respond(send, 403, {"message": "drain is asked for from inside of the pod"})
            return
        self._slots.drain()
        await respond(send, 200, self._state())

    def _state(self) -> dict[str, Any]:
        """What the host says of itself, and of each of its adapters."""
        now, verdict, told = self._clock(), self._verdict(), self._slots.told
        reports = {name: slot.replica.report() for name, slot in self._slots.loaded.items()}
        missing = [
            self._missing(wanted.revision)
            for wanted in (told.adapters if told else ())
            if wanted.revision not in reports
        ]
        uptime = round(now - self._started, 3)
        return {
            "version": "",
            "digest": self._settings.digest,
            "revision": self._settings.revision,
            "instance": self._instance,
            "uptimeSeconds": uptime,
            "ready": verdict.is_ready,
            "reason": verdict.reason,
            "message": verdict.message,
            "draining": self._slots.is_draining,
            "running": sum(report["running"] for report in reports.values()),
            "accepted": sum(report["accepted"] for report in reports.values()),
            "quietSeconds": min((r["quietSeconds"] for r in reports.values()), default=uptime),
            "adapterList": told.model_dump(mode="json", by_alias=True) if told else None,
            "adapters": [*reports.values(), *missing],
        }

    def _missing(self, revision: str) -> dict[str, Any]:
        why = self._slots.why_missing(revision)
        return {
            "revision": revision,
            "instance": "",
            "ready": False,
            "reason": why.reason,
            "message": why.message,
            "draining": False,
            "running": 0,
            "accepted": 0,
            "quietSeconds": round(self._clock() - self._started, 3),
        }

    def _verdict(self) -> Verdict:
        """Whether this replica may be given requests.

        None that the proxy gives requests may still be on its way, as after a restart. But one that
        answers wrongly is no reason to take the requests from the others.
        """
        slots = self._slots
        if slots.is_draining:
            running = sum(slot.replica.num_running for slot in slots.loaded.values())
            return Verdict(ReadyReason.DRAINING, f"{running} requests are under way still")
        if slots.told is None:
            return _UNTOLD
        verdicts = {
            wanted.revision: self._verdict_of(wanted.revision) for wanted in slots.told.adapters
        }
        routed = [verdicts[each.revision] for each in slots.told.adapters if each.is_routed]
        hindered = [each for each in verdicts.values() if each.reason == ReadyReason.NO_PROGRESS]
        hindered += [each for each in routed if each.reason in _ON_THEIR_WAY]
        # Before the first route any of them will do.
        best = sorted(routed or verdicts.values(), key=lambda each: not each.is_ready)
        return next(iter((*hindered, *best)), _NONE)

    def _verdict_of(self, revision: str) -> Verdict:
        slot = self._slots.loaded.get(revision)
        if slot is None:
            return self._slots.why_missing(revision)
        report = slot.replica.report()
        return Verdict(ReadyReason(report["reason"]), report["message"])


class _Metrics(Collector):
    """The metrics of all adapters as one family each: Prometheus takes no name twice."""

    def __init__(self, slots: AdapterSlots) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for slot in self._slots.loaded.values():
            for metric in slot.registry.collect():
                family = families.setdefault(metric.name, metric)
                if family is not metric:
                    family.samples.extend(metric.samples)
        yield from families.values()


def _chosen(scope: Scope) -> str | None:
    """The revision that the proxy named; several are none."""
    given = [value for name, value in scope["headers"] if name == REVISION_HEADER.encode()]
    return given[0].decode("latin-1") if len(given) == 1 else None
