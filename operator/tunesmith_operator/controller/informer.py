"""The watches: kopf lists and watches everything, and hands each event to the `EventRouter`.

kopf is informer and life cycle, no more: its handlers only pass events on, so it leaves neither
finalizer nor annotation on anybody's objects, and it is told to keep no notes of its own either.
Definitions may come and go while the operator runs; kopf looks for them once, when it starts, so it
is started again when they change.
"""

import asyncio
import logging
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import kopf
from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.controller.child_cache import ChildWatch
from tunesmith_operator.controller.controller import Controller, RelatedWatch
from tunesmith_operator.controller.event_router import EventRouter
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER, SELECTOR

_LOG = logging.getLogger(__name__)

_ABSENT_S: Final = 10
_DEFINED_S: Final = 30.0

# How many objects are listed at once, and for how many seconds kopf keeps one that was handed on:
# of thousands at once, and for longer, Python never gives most of their memory back. With 5,000
# jobs that are over it was 376 MiB at once and 62 so.
CHUNK_SIZE: Final = 500
IDLE_S: Final = 0.5


async def watch(
    router: EventRouter, client: KubeClient, namespaces: Sequence[str], *, stop: asyncio.Event
) -> None:
    """Watch until told to stop; while no controller's kind is defined, wait for one.

    Children that are optional are watched for as long as they are defined: KubeRay may come and go.
    """
    kinds, optional = tuple(router.controllers), _optional_kinds(router.controllers.values())
    while not stop.is_set():
        own = await _served(client, kinds)
        missing = [kind for kind in kinds if kind not in own]
        again_s = _DEFINED_S if own else _ABSENT_S
        for kind in missing:
            _LOG.warning("%ss are not defined here; looked for again in %d s", kind, again_s)
        if not own:
            await asyncio.sleep(again_s)
            continue
        served = own | await _served(client, optional)
        # A kind of ours that is there is not asked for again: its watch fails when it goes.
        changed = asyncio.create_task(
            _definitions_change(client, (*optional, *missing), before=served)
        )
        try:
            await _watch_once(router, served, namespaces, stop=stop, changed=changed)
        except Exception as error:
            # kopf ends alike for a definition that has gone and for a fault of its own. It is a
            # fault if everything is still there, and was there: a definition may be back by now.
            if not _was_gone(error) and await _served(client, (*optional, *kinds)) == served:
                raise
        finally:
            changed.cancel()


def _optional_kinds(controllers: Iterable[Controller]) -> tuple[str, ...]:
    """The kinds that are watched where they are defined, each once."""
    kinds: dict[str, None] = {}
    for controller in controllers:
        children = controller.children.watches
        kinds |= dict.fromkeys(watch.resource.kind for watch in children if watch.is_optional)
        kinds |= dict.fromkeys(watch.resource.kind for watch in controller.related)
    return tuple(kinds)


async def _served(client: KubeClient, kinds: Iterable[str]) -> set[str]:
    return {kind for kind in kinds if await client.serves(kind)}


async def _definitions_change(
    client: KubeClient, kinds: Sequence[str], *, before: Collection[str]
) -> None:
    """Return once one of these kinds is defined that was not, or the other way round."""
    while True:
        await asyncio.sleep(_DEFINED_S)
        for kind in kinds:
            try:
                if await client.serves(kind) != (kind in before):
                    return
            except (ApiException, OSError, TimeoutError) as error:
                _LOG.warning("whether %ss are defined was not to be learnt: %s", kind, error)


async def _watch_once(
    router: EventRouter,
    served: Collection[str],
    namespaces: Sequence[str],
    *,
    stop: asyncio.Event,
    changed: asyncio.Task[None],
) -> None:
    """Watch until told to stop, or until there is something else to watch."""
    ready, ended = asyncio.Event(), asyncio.Event()
    changed.add_done_callback(lambda _: ended.set())
    async with asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(_take_signals_back(ready, stop)),
            group.create_task(_set_after(stop, ended)),
        ]
        await kopf.operator(
            registry=registry_of(router, served),
            settings=kopf_settings(router.controllers.values()),
            namespaces=namespaces,
            clusterwide=not namespaces,
            standalone=True,
            ready_flag=ready,
            stop_flag=ended,
        )
        for helper in helpers:
            helper.cancel()
    # NB: kopf logs that a watch has failed for good, and returns as if it had been told to stop.
    if not ended.is_set():
        raise RuntimeError("the watches have ended without being asked to")


def _was_gone(error: BaseException) -> bool:
    """Whether the API server has said that it does not know what was watched."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_was_gone, error.exceptions))
    # kopf keeps the class of its error to itself; the status is that of the answer.
    return getattr(error, "status", None) == HTTPStatus.NOT_FOUND


async def _set_after(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    second.set()


async def _take_signals_back(ready: asyncio.Event, stop: asyncio.Event) -> None:
    """kopf takes the signals over as it starts, and then ends alike for a signal and a fault."""
    await ready.wait()
    stop_on_signals(stop)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM, as a kubelet sends it, and at Ctrl-C."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def registry_of(router: EventRouter, served: Collection[str]) -> kopf.OperatorRegistry:
    """The handlers of everything that is watched; what is not in `served` is left out."""
    # A registry of our own: kopf's default one is the process's, and fills up with each restart.
    # NB: it has no login, without which kopf says that it ran out of valid credentials.
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for controller in router.controllers.values():
        if controller.kind in served:
            _watch_objects(registry, router, controller)
            for watch in controller.children.watches:
                if not watch.is_optional or watch.resource.kind in served:
                    _watch_children(registry, router, controller.kind, watch)
            for related in controller.related:
                if related.resource.kind in served:
                    _watch_related(registry, router, related)
    return registry


def _watch_objects(
    registry: kopf.OperatorRegistry, router: EventRouter, controller: Controller
) -> None:
    kind, resource = controller.kind, controller.resource

    async def on_object(*, namespace: str | None, name: str, event: Any, **_: Any) -> None:
        key = Key(kind, namespace or "", name)
        router.on_object(key, event["object"], type_=event["type"])

    kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(on_object)


def _watch_children(
    registry: kopf.OperatorRegistry, router: EventRouter, parent: str, watch: ChildWatch
) -> None:
    async def on_child(
        *, namespace: str | None, labels: Mapping[str, str], event: Any, **_: Any
    ) -> None:
        key = Key(parent, namespace or "", labels[watch.parent_label])
        router.on_child(key, watch.resource.kind, event["object"], type_=event["type"])

    ours: dict[str, Any] = {MANAGED_BY: MANAGER, watch.parent_label: kopf.PRESENT}
    resource = watch.resource
    kopf.on.event(resource.api_version, resource.plural, labels=ours, registry=registry)(on_child)


def _watch_related(
    registry: kopf.OperatorRegistry, router: EventRouter, watch: RelatedWatch
) -> None:
    async def on_related(*, event: Any, **_: Any) -> None:
        router.on_related(watch, event["object"])

    resource = watch.resource
    kopf.on.event(resource.api_version, resource.plural, registry=registry)(on_related)


def kopf_settings(controllers: Collection[Controller]) -> kopf.OperatorSettings:
    """kopf's settings for an operator that writes nothing by it."""
    settings = kopf.OperatorSettings()
    # It would watch all definitions and namespaces, for which the operator has no right.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = CHUNK_SIZE
    settings.queueing.idle_timeout = IDLE_S
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # The server leaves out what others have made: labels of handlers alone would have every pod of
    # the cluster sent here first. Objects of our own kinds are made by people, who set no label.
    own = {controller.resource.plural for controller in controllers}
    for controller in controllers:
        for watch in controller.children.watches:
            if watch.resource.plural not in own:
                settings.watching.label_selectors[watch.resource.plural] = SELECTOR
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):
    """No notes on what an object was: kopf's own copies every object several times a change."""

    def build(
        self,
        *,
        body: kopf.Body,  # noqa: ARG002 - as kopf calls it
        extra_fields: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.StatusProgressStorage):
    """No notes on how far handlers are."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _login(**settings: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**settings) or kopf.login_with_kubeconfig(**settings)
