"""What was told of a job's children is read for as long as they run, and the server otherwise."""

# ruff: noqa: ARG002 - a double takes what the real one takes
import asyncio
import time
from typing import Any, cast

import pytest

from tunesmith_operator.controller.child_cache import CacheReader, ChildCache, ChildRef
from tunesmith_operator.controller.object_cache import FRESH_S
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.child_names import shared_name
from tunesmith_operator.finetunejob.controller import WATCHES
from tunesmith_operator.finetunejob.step import resync_s
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest

KEY = Key("FineTuneJob", "ns", "job")
REPORT = shared_name("job")
RUNNING = [[ChildRef("Job", "one")]]
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}


class Server:
    """An API server, as far as it is read; it notes what it was asked for."""

    def __init__(self, *objects: Manifest) -> None:
        self.objects = list(objects)
        self.asked: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        self.asked.append(name)
        found = (each for each in self.objects if each["metadata"]["name"] == name)
        return next((each for each in found if each["kind"] == kind), None)

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[Manifest]:
        self.asked.append(labels)
        return [each for each in self.objects if each["kind"] == kind]


def child(kind: str, name: str, **fields: Any) -> Manifest:
    labels = {"batch.kubernetes.io/job-name": "one"}
    owners = [{"uid": "u"}]
    metadata = {"name": name, "labels": labels, "ownerReferences": owners, "annotations": {"a": ""}}
    return {"kind": kind, "metadata": metadata, **fields}


def told(*objects: Manifest) -> ChildCache:
    children = ChildCache(WATCHES)
    for each in objects:
        children.note(KEY, each["kind"], each, is_gone=False)
    return children


def running() -> list[Manifest]:
    return [child("Job", "one"), child("Pod", "pod"), child("ConfigMap", REPORT)]


def reader(children: ChildCache, server: Server, *, uid: str = "u") -> CacheReader:
    client, report = cast("KubeClient", server), ChildRef("ConfigMap", REPORT)
    return children.reader(client, KEY, uid=uid, running=RUNNING, beside=report)


async def read_all(source: CacheReader) -> tuple[Manifest | None, list[Manifest]]:
    job = await source.get("Job", "ns", "one")
    pods = await source.list("Pod", "ns", labels="batch.kubernetes.io/job-name=one")
    await source.get("ConfigMap", "ns", REPORT)
    source.finish()
    return job, pods


def asked(children: ChildCache, *, uid: str = "u") -> int:
    """How often the server was asked by one look."""
    server = Server(*running())
    asyncio.run(read_all(reader(children, server, uid=uid)))
    return len(server.asked)


def test_children_that_run_are_read_from_what_was_told() -> None:
    server = Server()
    job, pods = asyncio.run(read_all(reader(told(*running()), server)))

    assert job is not None
    assert job["metadata"]["name"] == "one"
    assert "annotations" not in job["metadata"]
    assert [each["metadata"]["name"] for each in pods] == ["pod"]
    assert server.asked == []


@pytest.mark.parametrize(
    "news",
    [
        child("Job", "one", status=COMPLETE),
        child("ConfigMap", REPORT) | {"metadata": {"name": REPORT, "deletionTimestamp": "t"}},
    ],
)
def test_what_is_over_or_goes_is_read_from_the_server(news: Manifest) -> None:
    assert asked(told(*running(), news)) == 3


@pytest.mark.parametrize("missing", range(3))
def test_only_a_missing_pod_is_believed_without_asking(missing: int) -> None:
    objects = running()
    children = told(*objects)
    children.note(KEY, objects[missing]["kind"], objects[missing], is_gone=True)

    assert bool(asked(children)) is (objects[missing]["kind"] != "Pod")


def test_a_report_of_another_job_of_this_name_does_not_count() -> None:
    assert asked(told(*running()), uid="another") == 3


def test_children_are_forgotten_with_their_job() -> None:
    children = told(*running())
    children.forget(KEY)

    assert asked(children) == 3


def test_what_watches_have_missed_is_read_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    children = told(*running())
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + FRESH_S + 1)
    server = Server(running()[0], running()[2])  # the pod has gone, and no watch has told

    asyncio.run(read_all(reader(children, server)))
    _, pods = asyncio.run(read_all(reader(children, server)))

    assert len(server.asked) == 3
    assert pods == []


def test_the_server_is_asked_at_each_look_that_is_due_to_the_time_alone() -> None:
    assert all(resync_s(f"uid-{number}") > FRESH_S for number in range(100))


def test_what_was_read_does_not_replace_what_was_told_meanwhile() -> None:
    children = told(*running()[:2])  # no report yet: the server is asked
    server = Server(*running())
    source = reader(children, server)
    children.note(KEY, "Job", running()[0], is_gone=True)
    asyncio.run(read_all(source))

    assert asked(children) == 3


def test_news_while_the_server_answers_is_kept_although_its_answers_say_otherwise() -> None:
    children = told(*running()[:2])
    server = Server(*running())
    source = reader(children, server)
    children.note(KEY, "ConfigMap", running()[2], is_gone=False)
    asyncio.run(read_all(source))

    assert asked(children) == 0


def test_an_active_child_is_known_although_the_copies_are_dropped() -> None:
    """A stop makes copies worthless, and a start that came late is to be found all the same."""
    children = told(*running())
    children.drop_copies(KEY)
    after_a_stop = children.active(KEY)
    children.forget(KEY)

    assert after_a_stop == {ChildRef("Job", "one")}
    assert children.active(KEY) == frozenset()


def test_of_children_of_an_object_that_is_over_no_copies_are_kept() -> None:
    children = ChildCache(WATCHES)
    for manifest in running():
        children.note(KEY, manifest["kind"], manifest, is_gone=False, has_copy=False)

    assert asked(children) == 3
    assert children.active(KEY) == {ChildRef("Job", "one")}


def test_config_maps_beside_the_report_are_not_kept() -> None:
    """They hold requests of up to 1 MiB."""
    children = told(child("Job", "one"), child("ConfigMap", "job--train-1-abcde"))
    source = reader(children, Server())

    assert asyncio.run(source.get("ConfigMap", "ns", "job--train-1-abcde")) is None
