"""Memory across the jobs of a cluster, in an object store and in a folder of a volume."""

import json
from pathlib import Path
from typing import Any

import pytest

from small_sources import BUCKET
from tunesmith_api.field_types import SecretReference
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Task
from tunesmith_engine.search_memory.stored_lines import VERSION, line_of
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.search_memory_objects import SearchMemoryObjects

PREFIX = "work/search-memory/ns"


def a_job(job: str, *, value: float = 1.0, uid: str | None = None) -> PastJob:
    trials = [PastTrial(settings={"training.epochs": 2}, value=value)]
    return PastJob(job=job, uid=uid or job, task=Task(), trials=trials)


@pytest.fixture(params=["s3", "file"])
def memory(request: pytest.FixtureRequest, bucket: Any, secrets: Path, tmp_path: Path) -> Any:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    uri = f"s3://{BUCKET}/{PREFIX}" if request.param == "s3" else (tmp_path / "memory").as_uri()
    return SearchMemoryObjects(uri, secret=secret)


def test_what_one_job_remembers_another_reads(memory: SearchMemoryObjects) -> None:
    assert memory.read() == []

    for job in ("first", "second"):
        memory.remember(a_job(job))

    assert sorted(record.job for record in memory.read()) == ["first", "second"]


def test_a_run_that_is_remembered_again_is_there_once(memory: SearchMemoryObjects) -> None:
    for value in (2.0, 1.0):
        memory.remember(a_job("first", value=value))

    (record,) = memory.read()
    assert record.trials[0].value == 1.0


def test_what_is_no_record_or_of_a_newer_release_is_passed_over_and_kept(
    bucket: Any, secrets: Path
) -> None:
    newer = json.dumps({**json.loads(line_of(a_job("newer"))), "version": VERSION + 1})
    for name, text in (("a.jsonl", newer), ("b.jsonl", '{"cut'), ("c.txt", "x")):
        bucket.pipe_file(f"{BUCKET}/{PREFIX}/{name}", text.encode())
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    memory = SearchMemoryObjects(f"s3://{BUCKET}/{PREFIX}", secret=secret)

    memory.remember(a_job("ours"))

    assert [record.job for record in memory.read()] == ["ours"]
    assert bucket.cat_file(f"{BUCKET}/{PREFIX}/a.jsonl").decode() == newer


def test_a_store_that_is_not_there_is_told(bucket: Any, secrets: Path) -> None:
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    memory = SearchMemoryObjects("s3://no-such-bucket/memory", secret=secret)

    with pytest.raises(SourceError, match="workspace"):
        memory.remember(a_job("first"))
