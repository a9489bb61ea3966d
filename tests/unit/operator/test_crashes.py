"""The operator may die after any write: the end is the same, and nothing is made twice."""

# ruff: noqa: ARG002 - a double takes what the real one takes
import asyncio
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from json_merge import merged
from tunesmith_engine.stages.contracts import Environment, StageRequest, StageResult
from tunesmith_operator.identities import Identities
from tunesmith_operator.names import REQUEST_ANNOTATION
from tunesmith_operator.reconciling import reconcile
from tunesmith_operator.settings import Settings

SETTINGS = Settings(images=dict.fromkeys(Environment, "stages:1"))
NUM_CHILDREN = 5 + 6
NUM_WRITES = NUM_CHILDREN + 7 + 7


class Crash(Exception):  # noqa: N818
    """The operator is killed."""


class Double:
    """An API server of one job, whose stages succeed as soon as they are started."""

    def __init__(self, *, crash_after: int | None = None) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.made: list[tuple[str, str]] = []
        self.writes = 0
        self.crash_after = crash_after
        spec = {
            "model": {"uri": "hf://org/model"},
            "dataset": {"train": {"uri": "file://rows.jsonl"}},
            "output": {"model": "m"},
        }
        self.objects["FineTuneJob", "job"] = {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "job", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
            "spec": spec,
        }

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return deepcopy(self.objects.get((kind, name)))

    async def warnings(self, namespace: str, *, of_uid: str) -> list[dict[str, Any]]:
        return []

    async def list(self, kind: str, namespace: str, *, labels: str) -> list[dict[str, Any]]:
        return []

    async def workloads(self, namespace: str, *, of_uid: str) -> None:
        return None

    async def serves(self, kind: str) -> bool:
        return False

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: dict[str, Any] | None = None
    ) -> None:
        raise AssertionError("nothing is stopped here")

    async def patch_status(self, found: dict[str, Any], change: dict[str, Any]) -> None:
        stored = self.objects[found["kind"], found["metadata"]["name"]]
        stored["status"] = merged(stored.get("status", {}), change)
        self._written()

    async def apply(self, manifest: dict[str, Any]) -> None:
        if (manifest["kind"], manifest["metadata"]["name"]) not in self.objects:
            self._make(manifest)
        self._written()

    async def create(self, manifest: dict[str, Any]) -> None:
        if (manifest["kind"], manifest["metadata"]["name"]) not in self.objects:
            self._make(manifest)
        self._written()

    def _make(self, manifest: dict[str, Any]) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self.objects[kind, name] = deepcopy(manifest)
        if kind != "Event":
            self.made.append((kind, name))
        if kind == "Job":
            self._succeed(name)

    def _written(self) -> None:
        self.writes += 1
        if self.writes == self.crash_after:
            raise Crash

    def _succeed(self, name: str) -> None:
        template = self.objects["Job", name]["spec"]["template"]
        text = template["metadata"]["annotations"][REQUEST_ANNOTATION]
        request = StageRequest.model_validate_json(text)
        result = StageResult(
            stage=request.stage,
            key=request.key,
            attempt=request.attempt,
            outcome="Succeeded",
            reason="Succeeded",
        )
        report = self.objects["ConfigMap", "job-tunesmith"].setdefault("data", {})
        report[request.result.rsplit("/", 1)[1]] = result.model_dump_json(by_alias=True)
        self.objects["Job", name]["status"] = {
            "conditions": [{"type": "Complete", "status": "True"}]
        }


async def look(double: Double) -> None:
    """What a worker does with the key, in an operator that has just begun."""
    identities = Identities(double)
    await reconcile(double, namespace="ns", name="job", settings=SETTINGS, identities=identities)


def run(double: Double) -> dict[str, Any]:
    """Look at the job again and again, as after every event and every crash."""
    for _ in range(40):
        try:
            asyncio.run(look(double))
        except Crash:
            double.crash_after = None
        if double.objects["FineTuneJob", "job"].get("status", {}).get("phase") == "Succeeded":
            break
    status: dict[str, Any] = double.objects["FineTuneJob", "job"]["status"]
    return status


def test_a_job_costs_five_objects_one_for_each_stage_and_seven_of_status_and_events() -> None:
    double = Double()
    status = run(double)

    assert status["phase"] == "Succeeded"
    assert double.writes == NUM_WRITES
    assert len(double.made) == NUM_CHILDREN


@pytest.mark.parametrize("crash_after", range(1, NUM_WRITES + 1))
def test_killed_after_any_write_the_end_is_the_same_and_nothing_is_made_twice(
    crash_after: int,
) -> None:
    shaken = Double(crash_after=crash_after)
    status = run(shaken)

    assert status["phase"] == "Succeeded"
    assert [each["attempt"] for each in status["stages"]] == [1] * 6
    assert [each.get("cached", False) for each in status["stages"]] == [False] * 6
    assert len(shaken.made) == NUM_CHILDREN
    assert len(set(shaken.made)) == NUM_CHILDREN


def test_a_result_that_is_reported_during_a_look_counts() -> None:
    class Late(Double):
        """Every stage reports and ends just before its Job is read."""

        held: dict[str, str] | None = None

        def _succeed(self, name: str) -> None:
            super()._succeed(name)
            self.held = self.objects["ConfigMap", "job-tunesmith"].pop("data")

        async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
            found = await super().get(kind, namespace, name)
            if kind == "Job" and self.held is not None:
                self.objects["ConfigMap", "job-tunesmith"]["data"] = self.held
            return found

    status = run(Late())

    assert [each["failures"] for each in status["stages"]] == [0] * 6


def end_of(double: Double, stage: str) -> dict[str, Any]:
    """Look until the stage has succeeded; its status."""
    for _ in range(40):
        asyncio.run(look(double))
        (found,) = (
            each
            for each in double.objects["FineTuneJob", "job"]["status"]["stages"]
            if each["name"] == stage
        )
        if found["state"] == "Succeeded":
            return dict(found)
    raise AssertionError(f"{stage} does not succeed")


def test_a_result_that_counted_needs_its_batch_job_no_more() -> None:
    double = Double()
    end_of(double, "prepare")
    name = next(name for kind, name in double.objects if kind == "Job" and "prepare" in name)
    del double.objects["Job", name]

    status = run(double)

    assert [each["attempt"] for each in status["stages"]] == [1] * 6


def test_a_report_that_a_later_stage_has_changed_does_not_count_any_more() -> None:
    double = Double()
    end_of(double, "evaluate")
    report = double.objects["ConfigMap", "job-tunesmith"]["data"]
    verdict = StageResult.model_validate_json(report["evaluate-1.result"])
    forged = verdict.model_copy(update={"message": "better than ever"})
    report["evaluate-1.result"] = forged.model_dump_json(by_alias=True)

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
    assert len(double.made) == NUM_CHILDREN
    assert double.objects["FineTuneJob", "job"]["status"] == status
