"""The operator may die after any write: the end is the same, and nothing is made twice."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from api_double import ApiDouble
from api_double import Key as ObjectKey
from manifests import DEFAULT_STAGES
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import Environment, StageRequest, StageResult
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.child_names import REQUEST_ANNOTATION
from tunesmith_operator.finetunejob.controller import finetunejob_controller
from tunesmith_operator.finetunejob.step import AGAIN_S
from tunesmith_operator.kube.api_errors import CONFLICT
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.settings import Settings

SETTINGS = Settings(images=dict.fromkeys(Environment, "stages:1"))
REPORT: ObjectKey = ("ConfigMap", "ns", "job-tunesmith")
NUM_CHILDREN = 5 + 6
NUM_WRITES = NUM_CHILDREN + 7 + 7


class Crash(BaseException):
    """The operator is killed, which nothing catches."""


class Double(ApiDouble):
    """An API server of one job, whose stages succeed as soon as they are started."""

    def __init__(self, *, crash_after: int | None = None) -> None:
        super().__init__()
        self.births: list[tuple[str, str]] = []
        self.requests: list[StageRequest] = []
        self.writes = 0
        self.crash_after = crash_after
        self.put(
            {
                "apiVersion": "tunesmith.dev/v1alpha1",
                "kind": "FineTuneJob",
                "metadata": {"name": "job", "namespace": "ns"},
                "spec": {
                    "model": {"uri": "hf://org/model"},
                    "dataset": {"train": {"uri": "file://rows.jsonl"}},
                    "output": {"model": "m"},
                },
            }
        )

    @property
    def status(self) -> dict[str, Any]:
        """What the job says of itself."""
        found: dict[str, Any] = self.objects["FineTuneJob", "ns", "job"].get("status", {})
        return found

    @property
    def report(self) -> dict[str, str]:
        """What the stages have reported."""
        found: dict[str, str] = self.objects[REPORT].setdefault("data", {})
        return found

    def made(self, key: ObjectKey) -> None:
        kind, _, name = key
        if kind not in {"Event", "FineTuneJob"}:
            self.births.append((kind, name))
        if kind == "Job":
            self.succeed(name)

    def written(self) -> None:
        self.writes += 1
        if self.writes == self.crash_after:
            raise Crash

    def succeed(self, name: str) -> None:
        """The stage reports, and its Job is complete."""
        template = self.objects["Job", "ns", name]["spec"]["template"]
        text = template["metadata"]["annotations"][REQUEST_ANNOTATION]
        request = StageRequest.model_validate_json(text)
        self.requests.append(request)
        result = StageResult(
            stage=request.stage,
            key=request.key,
            attempt=request.attempt,
            outcome="Succeeded",
            reason="Succeeded",
        )
        told = {request.result.rsplit("/", 1)[1]: result.model_dump_json(by_alias=True)}
        self.change(*REPORT, {"data": told})
        complete = [{"type": "Complete", "status": "True"}]
        self.change("Job", "ns", name, {"status": {"conditions": complete}})


async def look(double: Double) -> float | None:
    """What a worker does with the key, in an operator that has just begun."""
    recorder = EventRecorder(double)
    reconcile = finetunejob_controller(double, SETTINGS, recorder).reconcile
    after_s = await reconcile(Key("FineTuneJob", "ns", "job"))
    await recorder.flush()
    return after_s


def run(double: Double) -> dict[str, Any]:
    """Look at the job again and again, as after every event and every crash."""
    for _ in range(40):
        try:
            asyncio.run(look(double))
        except Crash:
            double.crash_after = None
        if double.status.get("phase") == "Succeeded":
            break
    return double.status


def test_a_job_costs_five_objects_one_for_each_stage_and_seven_of_status_and_events() -> None:
    double = Double()
    status = run(double)

    assert status["phase"] == "Succeeded"
    assert double.writes == NUM_WRITES
    assert len(double.births) == NUM_CHILDREN


@pytest.mark.parametrize("crash_after", range(1, NUM_WRITES + 1))
def test_killed_after_any_write_the_end_is_the_same_and_nothing_is_made_twice(
    crash_after: int,
) -> None:
    shaken = Double(crash_after=crash_after)
    status = run(shaken)

    assert status["phase"] == "Succeeded"
    assert [each["attempt"] for each in status["stages"]] == [1] * 6
    assert [each.get("cached", False) for each in status["stages"]] == [False] * 6
    assert len(shaken.births) == NUM_CHILDREN
    assert len(set(shaken.births)) == NUM_CHILDREN


def test_every_stage_in_a_pod_is_told_what_the_pods_are_given() -> None:
    double = Double()
    double.objects["FineTuneJob", "ns", "job"]["spec"]["resources"] = {"memory": "4Gi"}

    run(double)

    memory = {request.stage: request.memory for request in double.requests}
    assert set(memory) == set(DEFAULT_STAGES)
    assert all(each and each[TRAIN.name].size_bytes == 4 << 30 for each in memory.values())


def test_what_is_left_of_a_deleted_job_of_the_same_name_reports_elsewhere() -> None:
    """Until the garbage collector ends it, a pod of that job may still write into the report."""
    deleted, again = Double(), Double()
    run(deleted)
    run(again)

    addresses = [
        {each for request in double.requests for each in (request.report, request.result)}
        for double in (deleted, again)
    ]
    assert [len(each) for each in addresses] == [12, 12]
    assert not set.intersection(*addresses)


@pytest.mark.parametrize("kind", ["ConfigMap", "PersistentVolumeClaim"])
def test_what_a_deleted_job_of_the_same_name_has_left_is_waited_for_to_go(kind: str) -> None:
    """The garbage collector may come late; until then nothing tells that it is about to go."""
    double = Double()
    owner = {"kind": "FineTuneJob", "name": "job", "uid": "of-the-deleted-job"}
    left = {"name": "job-tunesmith", "namespace": "ns", "ownerReferences": [owner]}
    double.put({"apiVersion": "v1", "kind": kind, "metadata": left})
    double.births.clear()
    with pytest.raises(ApiException) as refused:
        asyncio.run(look(double))
    made = [each for each in double.births if each[0] == "Job"]
    del double.objects[kind, "ns", "job-tunesmith"]
    run(double)

    assert refused.value.status == CONFLICT
    assert made == []
    assert [each["attempt"] for each in double.status["stages"]] == [1] * 6


def test_a_result_that_is_reported_during_a_look_counts() -> None:
    class Late(Double):
        """Every stage reports and ends just before its Job is read."""

        held: dict[str, str] | None = None

        def succeed(self, name: str) -> None:
            super().succeed(name)
            self.held = self.objects[REPORT].pop("data")

        async def get(
            self, kind: str, namespace: str, name: str, *, not_before: str = ""
        ) -> dict[str, Any] | None:
            found = await super().get(kind, namespace, name, not_before=not_before)
            if kind == "Job" and self.held is not None:
                self.report.update(self.held)
            return found

    status = run(Late())

    assert [each["failures"] for each in status["stages"]] == [0] * 6


def end_of(double: Double, stage: str) -> dict[str, Any]:
    """Look until the stage has succeeded; its status."""
    for _ in range(40):
        asyncio.run(look(double))
        (found,) = (each for each in double.status["stages"] if each["name"] == stage)
        if found["state"] == "Succeeded":
            return dict(found)
    raise AssertionError(f"{stage} does not succeed")


def test_a_result_that_counted_needs_its_batch_job_no_more() -> None:
    double = Double()
    end_of(double, "prepare")
    key = next(each for each in double.objects if each[0] == "Job" and "prepare" in each[2])
    del double.objects[key]

    status = run(double)

    assert [each["attempt"] for each in status["stages"]] == [1] * 6


def test_a_start_that_finds_its_child_there_is_looked_at_again_at_once() -> None:
    """The child may be long over, and then no news comes."""
    double = Double()
    after_a_start = asyncio.run(look(double))
    double.objects["FineTuneJob", "ns", "job"]["status"] = {}
    after_a_start_again = asyncio.run(look(double))

    assert after_a_start is not None
    assert after_a_start > AGAIN_S
    assert after_a_start_again == AGAIN_S


def test_a_report_that_a_later_stage_has_changed_does_not_count_any_more() -> None:
    double = Double()
    end_of(double, "evaluate")
    report = double.report
    (name,) = (each for each in report if each.startswith("evaluate"))
    verdict = StageResult.model_validate_json(report[name])
    forged = verdict.model_copy(update={"message": "better than ever"})
    report[name] = forged.model_dump_json(by_alias=True)

    status = run(double)
    stages = {each["name"]: each for each in status["stages"]}

    assert status["phase"] == "Succeeded"
    assert (stages["evaluate"]["attempt"], stages["evaluate"]["message"]) == (2, "")
    assert stages["prepare"]["attempt"] == 1


def test_another_release_neither_repeats_what_is_done_nor_what_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    double = Double(crash_after=12)
    assert double.crash_after is not None
    while double.writes < double.crash_after:
        with suppress(Crash):
            asyncio.run(look(double))
    monkeypatch.setattr("tunesmith_engine.planning.keys._VERSION", "another")
    double.crash_after = None
    status = run(double)
    monkeypatch.setattr("tunesmith_engine.planning.keys._VERSION", "a third")
    asyncio.run(look(double))

    assert [each["attempt"] for each in status["stages"]] == [1] * 6
    assert len(double.births) == NUM_CHILDREN
    assert double.status == status
