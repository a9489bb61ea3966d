"""A job is looked at as it was told of, and read from the server where that may be past."""

# ruff: noqa: ARG002 - a double takes what the real one takes
import asyncio
import time
from typing import Any, cast

import pytest

from tunesmith_operator.controller.object_cache import FRESH_S, CachedObject, ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.parsing import has_ended
from tunesmith_operator.finetunejob.step import resync_s
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest

KEY = Key("FineTuneJob", "ns", "job")


class Server:
    """An API server, as far as jobs are read; it notes at which version it was asked for one."""

    def __init__(self, job: Manifest | None = None) -> None:
        self.job = job
        self.asked: list[str] = []

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        self.asked.append(not_before)
        return self.job


def a_job(version: str, **fields: Any) -> Manifest:
    return {"metadata": {"uid": "u", "resourceVersion": version}, **fields}


def running(version: str) -> Manifest:
    return a_job(version, status={"phase": "Training"})


def read(jobs: ObjectCache, server: Server) -> CachedObject | None:
    return asyncio.run(jobs.read(cast("KubeClient", server), KEY))


def asked_after(jobs: ObjectCache) -> list[str]:
    """The versions at which a look asks the server for the job."""
    server = Server(running("9"))
    read(jobs, server)
    return server.asked


def told(*jobs: Manifest) -> ObjectCache:
    found = ObjectCache(has_ended=has_ended)
    for each in jobs:
        found.note(KEY, each, is_created=False)
    return found


def test_a_job_that_is_not_over_is_not_read_again_and_lacks_only_managed_fields() -> None:
    server = Server()
    job = running("7")
    managed = {**job, "metadata": {**job["metadata"], "managedFields": [{"manager": "m"}]}}

    jobs = told(managed)

    assert [read(jobs, server), read(jobs, server)] == [CachedObject(job), CachedObject(job)]
    assert server.asked == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_no_copy_is_kept_of_a_job_that_is_over(phase: str) -> None:
    jobs = told(running("7"), a_job("8", status={"phase": phase}))

    assert asked_after(jobs) == ["8"]


def test_a_new_job_is_new_until_it_has_a_status() -> None:
    jobs, server = ObjectCache(has_ended=has_ended), Server()
    jobs.note(KEY, a_job("1"), is_created=True)
    new = read(jobs, server)
    jobs.note(KEY, running("2"), is_created=True)
    later = read(jobs, server)

    assert new == CachedObject(a_job("1"), is_new=True)
    assert later == CachedObject(running("2"))
    assert server.asked == []


def test_what_the_operator_has_written_is_waited_for() -> None:
    """Older news may come after the answer to a write."""
    jobs = told(running("7"))
    jobs.wrote(KEY, "9")
    at_once = asked_after(jobs)
    jobs.note(KEY, running("8"), is_created=False)
    after_older_news = asked_after(jobs)
    jobs.note(KEY, running("9"), is_created=False)
    after_its_own = asked_after(jobs)
    jobs.note(KEY, running("10"), is_created=False)

    assert [at_once, after_older_news, after_its_own, asked_after(jobs)] == [["9"], ["9"], [], []]


@pytest.mark.parametrize("version", ["7", "9"])
def test_a_write_that_was_told_of_already_or_changed_nothing_is_not_waited_for(
    version: str,
) -> None:
    jobs = told(running(version))
    jobs.wrote(KEY, version)

    assert asked_after(jobs) == []


def test_after_a_look_that_failed_the_job_is_read_until_something_is_told() -> None:
    jobs = told(running("7"))
    jobs.distrust(KEY)
    after_a_failure = asked_after(jobs)
    jobs.note(KEY, running("8"), is_created=False)

    assert [after_a_failure, asked_after(jobs)] == [["7"], []]


def test_a_job_that_is_made_again_has_nothing_of_the_one_before() -> None:
    jobs = told(running("7"))
    jobs.wrote(KEY, "8")
    jobs.forget(KEY)
    gone = asked_after(jobs)
    jobs.note(KEY, a_job("12"), is_created=True)

    assert gone == [""]
    assert read(jobs, Server()) == CachedObject(a_job("12"), is_new=True)


def test_a_job_that_the_server_no_longer_has_is_forgotten() -> None:
    jobs = told(running("7"))
    jobs.distrust(KEY)

    assert read(jobs, Server(None)) is None
    assert asked_after(jobs) == [""]


def test_a_job_that_was_made_again_while_it_was_read_is_not_forgotten() -> None:
    jobs = told(running("7"))
    jobs.distrust(KEY)

    class MadeAgain(Server):
        async def get(
            self, kind: str, namespace: str, name: str, *, not_before: str = ""
        ) -> Manifest | None:
            jobs.note(KEY, a_job("12"), is_created=True)
            return None

    assert read(jobs, MadeAgain()) is None
    assert read(jobs, Server()) == CachedObject(a_job("12"), is_new=True)


def test_what_watches_may_have_missed_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, new = told(running("7")), told(a_job("7"))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + FRESH_S)

    assert asked_after(jobs) == ["7"]
    assert asked_after(new) == []
    assert min(resync_s(str(each)) for each in range(2000)) > FRESH_S
