"""What kopf is told to watch, for all controllers and as definitions come and go."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

import pytest

from api_double import ApiDouble
from tunesmith_operator.controller import informer
from tunesmith_operator.controller.child_cache import ChildCache, ChildWatch
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.event_router import EventRouter
from tunesmith_operator.controller.informer import kopf_settings, registry_of, watch
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.finetunejob.controller import WATCHES
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.objects import SELECTOR
from tunesmith_operator.kube.resources import CONFIG_MAP, POD, Resource

MODEL_VERSION = Resource("ModelVersion", "tunesmith.dev", "v1alpha1", "modelversions")


async def nothing(_: Key) -> None:
    """There is nothing to do for an object."""


def job_controller() -> Controller:
    return Controller(FINE_TUNE_JOB, nothing, children=ChildCache(WATCHES))


def version_controller() -> Controller:
    watched = ChildWatch(CONFIG_MAP, "tunesmith.dev/version")
    return Controller(MODEL_VERSION, nothing, children=ChildCache([watched]))


def a_router(*controllers: Controller) -> EventRouter:
    return EventRouter(WorkQueue(), Metrics(), controllers)


@pytest.mark.parametrize(
    ("kinds", "served"),
    [
        ((), {"FineTuneJob"}),
        (("RayJob",), {"FineTuneJob", "RayJob"}),
        (("ModelVersion",), {"FineTuneJob", "ModelVersion"}),
    ],
)
def test_a_controller_whose_kind_is_not_defined_is_left_out_and_looked_for_again(
    kinds: tuple[str, ...],
    served: set[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched: list[set[str]] = []

    async def watch_once(
        _: EventRouter, served: Collection[str], *__: Any, stop: asyncio.Event, **___: Any
    ) -> None:
        watched.append(set(served))
        stop.set()

    async def run() -> None:
        router = a_router(job_controller(), version_controller())
        await watch(router, ApiDouble(*kinds), (), stop=asyncio.Event())

    monkeypatch.setattr(informer, "_watch_once", watch_once)
    caplog.set_level(logging.WARNING)
    asyncio.run(run())

    assert watched == [served]
    assert ("ModelVersions are not defined here" in caplog.text) is ("ModelVersion" not in kinds)


def test_kopf_watches_what_is_served_of_all_controllers_with_the_labels_of_each() -> None:
    router = a_router(job_controller(), version_controller())

    def watched(*served: str) -> set[tuple[object, str | None]]:
        handlers = registry_of(router, served)._watching._handlers
        labels = (
            {*(handler.labels or {})} - {"app.kubernetes.io/managed-by"} for handler in handlers
        )
        plurals = [handler.selector.any_name for handler in handlers if handler.selector]
        return {(plural, next(iter(found), None)) for plural, found in zip(plurals, labels)}  # noqa: B905

    jobs = {("jobs", "tunesmith.dev/job"), ("pods", "tunesmith.dev/job")}
    maps = {("configmaps", "tunesmith.dev/job")}
    versions = {("modelversions", None), ("configmaps", "tunesmith.dev/version")}
    assert watched("FineTuneJob") == {("finetunejobs", None), *jobs, *maps}
    assert watched("FineTuneJob", "RayJob") == {
        ("finetunejobs", None),
        ("rayjobs", "tunesmith.dev/job"),
        *jobs,
        *maps,
    }
    assert watched("ModelVersion") == versions
    assert watched("FineTuneJob", "ModelVersion") >= jobs | maps | versions


def test_the_server_leaves_out_what_others_made_but_never_an_object_of_our_own_kinds() -> None:
    made_for_jobs = ChildWatch(MODEL_VERSION, "tunesmith.dev/job")
    jobs = Controller(
        FINE_TUNE_JOB, nothing, children=ChildCache([made_for_jobs, ChildWatch(POD, "x")])
    )

    selectors = kopf_settings([jobs, version_controller()]).watching.label_selectors

    by_plural = {getattr(selector, "any_name", None): text for selector, text in selectors.items()}
    assert by_plural == {"pods": SELECTOR, "configmaps": SELECTOR}
